//! ServiceCIDR objects.

use kube_ipvs_core::model::{Change, Event, Interner, Name, ServiceCidr};
use prost::Message;
use serde::Deserialize;

use super::address::range;
use super::meta::or_default;
use super::{Meta, Rejections, Resource};

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

/// An API server before 1.33 has none, and the role of kube-proxy before 1.31 does not allow reading
/// them.
impl Resource for ServiceCidrObject {
    type Key = Name;
    type Value = ServiceCidr;

    const KIND: &'static str = "ServiceCIDR";
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    const IS_NAMESPACED: bool = false;
    const IS_OPTIONAL: bool = true;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }

    fn value(&self, names: &mut Interner, rejections: &mut Rejections<'_>) -> Option<ServiceCidr> {
        let cidrs = rejections.accept_each("spec.cidrs", &self.spec.cidrs, range);
        Some(ServiceCidr { name: names.intern(&self.metadata.name), cidrs: cidrs.collect() })
    }

    fn key(metadata: &Meta) -> Name {
        metadata.name.as_str().into()
    }

    fn event(change: Change<Name, ServiceCidr>) -> Event {
        Event::ServiceCidrs(change)
    }
}
