//! Objects of the lab, and the manifests of them.

use std::net::IpAddr;

use kube_ipvs_core::model::Family;
use serde_json::{Value, json};

use super::host::Host;
use crate::common::objects::{self, NodeBuilder, Object, SliceBuilder, slice};

/// The manifest of an object of any kind.
#[derive(Clone, Debug)]
pub(crate) struct Manifest(Value);

impl<K> From<Object<K>> for Manifest {
    fn from(object: Object<K>) -> Self {
        Self(object.into())
    }
}

impl Manifest {
    /// The name of the file that it belongs in.
    pub(crate) fn file(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("cluster").to_lowercase();
        let metadata = &self.0["metadata"];
        let (kind, namespace) = (text(&self.0["kind"]), text(&metadata["namespace"]));
        format!("{kind}.{namespace}.{}.json", text(&metadata["name"]))
    }

    pub(crate) fn content(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

/// The first EndpointSlice of the Service `namespace/name`.
pub(crate) fn endpoints(key: &str) -> SliceBuilder {
    slice(&format!("{key}-1"))
}

/// An empty slice of each family of the Service `NAMESPACE/NAME`.
pub(crate) fn endpoints_of_both(key: &str) -> [SliceBuilder; 2] {
    [slice(&format!("{key}-v4")), slice(&format!("{key}-v6")).v6()]
}

/// The Node object of a node of the lab.
pub(crate) fn node(host: Host) -> NodeBuilder {
    node_at(host, &Family::BOTH.map(|family| host.ip(family)))
}

/// The same, with other addresses.
pub(crate) fn node_at(host: Host, addresses: &[IpAddr]) -> NodeBuilder {
    let (number, zone) = if host == Host::N1 { (1, "zone-1") } else { (2, "zone-2") };
    let node = objects::node(host.node().expect("a node"))
        .pod_cidr(&format!("10.244.{number}.0/24"))
        .pod_cidr(&format!("fd00:244:{number}::/64"))
        .zone(zone);
    addresses.iter().fold(node, |node, address| node.internal_ip(&address.to_string()))
}

/// Endpoints on hosts of the lab, at their addresses of the slice's family.
impl SliceBuilder {
    pub(crate) fn ready_on(self, host: Host) -> Self {
        self.endpoint_on(host, (true, true, false))
    }

    pub(crate) fn not_ready_on(self, host: Host) -> Self {
        self.endpoint_on(host, (false, false, false))
    }

    /// Adds an endpoint that terminates but still serves.
    pub(crate) fn terminating_on(self, host: Host) -> Self {
        self.endpoint_on(host, (false, true, true))
    }

    pub(crate) fn without_conditions_on(self, host: Host) -> Self {
        self.ready_on(host).patch_endpoint(json!({ "conditions": null }))
    }

    fn endpoint_on(self, host: Host, conditions: (bool, bool, bool)) -> Self {
        let address = host.ip(self.family()).to_string();
        self.endpoint(&address, host.node().unwrap_or_default(), conditions)
    }
}
