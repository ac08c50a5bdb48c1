//! ServiceCIDR objects.

use kube_ipvs_core::model::{Interner, ServiceCidr};
use prost::Message;
use serde::Deserialize;

use super::address::range;
use super::meta::or_default;
use super::{Meta, Rejection, Rejections};

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct ServiceCidrObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "1")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "2")]
    spec: ServiceCidrSpec,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct ServiceCidrSpec {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "1")]
    cidrs: Vec<String>,
}

impl ServiceCidrObject {
    /// Converts the ServiceCIDR to the model. Invalid values are left out and reported.
    #[must_use]
    pub fn convert(&self, names: &mut Interner) -> (ServiceCidr, Vec<Rejection>) {
        let mut rejections = Rejections::of("ServiceCIDR", "", &self.metadata.name);
        let cidrs = self.spec.cidrs.iter().enumerate();
        let cidrs = cidrs
            .filter_map(|(index, text)| {
                rejections.accept(format_args!("spec.cidrs[{index}]"), range(text))
            })
            .collect();
        let cidr = ServiceCidr { name: names.intern(&self.metadata.name), cidrs };
        (cidr, rejections.finish())
    }
}
