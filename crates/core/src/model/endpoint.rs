//! EndpointSlices, reduced to the fields that decide who serves.

use std::fmt;
use std::net::IpAddr;

use super::{Family, Name, Protocol, ServiceKey, Shared};

/// `namespace/name` of an EndpointSlice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SliceKey(Name);

impl SliceKey {
    /// The key of the slice `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an endpoint is, and which nodes or zones should use it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Topology {
    /// `nodeName`.
    pub node: Option<Name>,
    /// `hints.forNodes[].name`.
    pub for_nodes: Box<[Name]>,
    /// `hints.forZones[].name`.
    pub for_zones: Box<[Name]>,
}

/// One entry of `endpoints`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// `addresses[0]`; Kubernetes gives further addresses no meaning.
    pub address: IpAddr,
    /// `conditions.ready`, true where it is nil.
    pub ready: bool,
    /// `conditions.serving`, true where it is nil.
    pub serving: bool,
    /// `conditions.terminating`, false where it is nil.
    pub terminating: bool,
    /// `nodeName` and `hints`, which it has in common with many others.
    pub topology: Shared<Topology>,
}

impl Endpoint {
    /// Still answers although it is on its way out: no new connections while others are ready.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.ready && self.serving && self.terminating
    }
}

/// One entry of a slice's `ports` that has a name and a number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndpointPort {
    /// `name`: the Service port that it belongs to; empty for an unnamed port.
    pub name: Name,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`: the number that the pods listen on.
    pub port: u16,
}

/// An EndpointSlice of one address family that names its Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// `metadata.namespace` and `metadata.name`.
    pub key: SliceKey,
    /// The Service that label `kubernetes.io/service-name` names.
    pub service: ServiceKey,
    /// `addressType`.
    pub family: Family,
    /// `ports`, which it has in common with many others.
    pub ports: Shared<[EndpointPort]>,
    /// `endpoints` with an address.
    pub endpoints: Box<[Endpoint]>,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time` in Unix milliseconds: when
    /// that happened for which the slice was written. It goes with the news of a change; slices
    /// that are kept have none, as they are no other for having been written at another time.
    pub triggered: Option<i64>,
}
