//! Node objects.

use std::slice;

use kube_ipvs_core::model::{Change, Event, Interner, Name, Node};
use prost::Message;
use serde::Deserialize;

use super::address::{range, usable_ip};
use super::meta::or_default;
use super::{Meta, Rejections, Resource};

/// Taint of a node that the cluster autoscaler is about to remove (KEP-3836).
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Label with the zone of a Node.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The relevant part of a Node.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct NodeObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "1")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "2")]
    spec: NodeSpec,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "3")]
    status: NodeStatus,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "podCIDR", deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    pod_cidr: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "5")]
    taints: Vec<Taint>,
    #[serde(rename = "podCIDRs", deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "7")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct Taint {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    key: String,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct NodeStatus {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "5")]
    addresses: Vec<NodeAddress>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct NodeAddress {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    r#type: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "2")]
    address: String,
}

impl Resource for NodeObject {
    type Key = Name;
    type Value = Node;

    const KIND: &'static str = "Node";
    const PATH: &'static str = "/api/v1/nodes";
    const IS_NAMESPACED: bool = false;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }

    fn value(&self, names: &mut Interner, rejections: &mut Rejections<'_>) -> Option<Node> {
        let Self { metadata, spec, status } = self;
        let addresses = status.addresses.iter().enumerate();
        let internal_ips = addresses
            .filter(|(_, address)| address.r#type == "InternalIP")
            .filter_map(|(index, address)| {
                let field = format_args!("status.addresses[{index}].address");
                rejections.accept(field, usable_ip(&address.address))
            })
            .collect();
        let listed = match spec.pod_cidrs.as_slice() {
            [] if !spec.pod_cidr.is_empty() => slice::from_ref(&spec.pod_cidr),
            listed => listed,
        };
        let doomed = spec.taints.iter().any(|taint| taint.key == TO_BE_DELETED);
        let zone = metadata.label(ZONE);
        Some(Node {
            name: names.intern(&metadata.name),
            internal_ips,
            pod_cidrs: rejections.accept_each("spec.podCIDRs", listed, range).collect(),
            zone: zone.filter(|zone| !zone.is_empty()).map(|zone| names.intern(zone)),
            labels: metadata
                .labels()
                .map(|(key, value)| (names.intern(key), names.intern(value)))
                .collect(),
            eligible: metadata.deletion_timestamp.is_none() && !doomed,
        })
    }

    fn key(metadata: &Meta) -> Name {
        metadata.name.as_str().into()
    }

    fn event(change: Change<Name, Node>) -> Event {
        Event::Node(match change {
            Change::Apply(node) => Some(node),
            Change::Delete(_) => None,
            Change::Replace(nodes) => nodes.into_iter().next(),
        })
    }
}
