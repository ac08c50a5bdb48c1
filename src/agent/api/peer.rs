//! Addresses with the names of their pods and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::EndpointName;
use serde::{Deserialize, Serialize};

/// Returns the names of the pods with these addresses, each with its namespace, and of this node.
#[must_use]
pub fn names(engine: &Engine, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, EndpointName> {
    let context = engine.desired().context();
    let mut names = engine.state().pods_at(addresses);
    let node = EndpointName::new(None, Some(&context.settings.node_name));
    let own = addresses.iter().filter(|ip| context.is_own(**ip));
    names.extend(own.map(|ip| (*ip, node.clone())));
    names
}

/// The names of what has an address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NameView {
    /// With the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// An end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// With the port.
    pub address: SocketAddr,
    #[serde(flatten)]
    pub name: NameView,
}

impl PeerView {
    pub(super) fn unnamed(address: SocketAddr) -> Self {
        Self { address, name: NameView::default() }
    }
}

impl From<EndpointName> for NameView {
    fn from(EndpointName { pod, node, .. }: EndpointName) -> Self {
        Self { pod, node: node.map(|it| it.to_string()) }
    }
}

impl fmt::Display for NameView {
    /// Formats the names as they follow an address: ` (pod on node)`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EndpointName::new(self.pod.as_deref(), self.node.as_deref()).fmt(f)
    }
}

impl fmt::Display for PeerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.name)
    }
}
