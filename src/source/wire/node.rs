//! Node objects.

use serde::Deserialize;

use super::address::{range, usable_ip};
use super::meta::or_default;
use super::{Meta, Rejection, Rejections};
use crate::model::{Interner, Node};

/// Taint of a node that the cluster autoscaler is about to remove (KEP-3836).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// A Node, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    /// `metadata`.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    spec: Spec,
    #[serde(deserialize_with = "or_default")]
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    #[serde(deserialize_with = "or_default")]
    key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Option<Vec<Address>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(deserialize_with = "or_default")]
    r#type: String,
    #[serde(deserialize_with = "or_default")]
    address: String,
}

impl NodeObject {
    /// The Node as the model has it. What cannot be used is left out and reported.
    #[must_use]
    pub fn convert(&self, names: &mut Interner) -> (Node, Vec<Rejection>) {
        let Self { metadata, spec, status } = self;
        let mut rejections = Rejections::of("Node", "", &metadata.name);
        let addresses = status.addresses.iter().flatten().enumerate();
        let internal_ips = addresses
            .filter(|(_, address)| address.r#type == "InternalIP")
            .filter_map(|(index, address)| {
                let field = format_args!("status.addresses[{index}].address");
                rejections.accept(field, usable_ip(&address.address))
            })
            .collect();
        let listed = spec.pod_cidrs.as_deref().unwrap_or_default();
        let single = spec.pod_cidr.iter().filter(|cidr| listed.is_empty() && !cidr.is_empty());
        let pod_cidrs = single
            .chain(listed)
            .enumerate()
            .filter_map(|(index, text)| {
                rejections.accept(format_args!("spec.podCIDRs[{index}]"), range(text))
            })
            .collect();
        let doomed = spec.taints.iter().flatten().any(|taint| taint.key == TO_BE_DELETED);
        let zone = metadata.labels.zone.as_deref();
        let node = Node {
            name: names.intern(&metadata.name),
            internal_ips,
            pod_cidrs,
            zone: zone.filter(|zone| !zone.is_empty()).map(|zone| names.intern(zone)),
            eligible: metadata.deletion_timestamp.is_none() && !doomed,
        };
        (node, rejections.finish())
    }
}
