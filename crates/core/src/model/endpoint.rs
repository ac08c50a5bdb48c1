//! EndpointSlices, reduced to the fields that select endpoints.

use std::fmt;
use std::net::IpAddr;

use super::{Family, Name, PodNames, Protocol, ServiceKey, Shared};

/// `namespace/name` of an EndpointSlice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SliceKey(Name);

impl SliceKey {
    /// Returns the key of the slice `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    /// Returns the name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Display for SliceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The location of an endpoint, and the nodes or zones that should use it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Topology {
    pub node: Option<Name>,
    pub zone: Option<Name>,
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
    /// `conditions.ready`; nil is true.
    pub ready: bool,
    /// `conditions.serving`; nil is true.
    pub serving: bool,
    /// `conditions.terminating`; nil is false.
    pub terminating: bool,
    /// Annotation `kube-ipvs.io/weight` of the slice; 1 without it, and 0 for maintenance.
    pub weight: u16,
    /// `nodeName`, `zone` and `hints`, shared with other endpoints.
    pub topology: Shared<Topology>,
}

impl Endpoint {
    /// Returns whether the endpoint takes new connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.weight > 0
    }

    /// Returns whether the endpoint still serves, but terminates or is in maintenance. It then takes
    /// no new connections while others are ready.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.is_ready() && self.serving && (self.terminating || self.ready)
    }
}

/// An entry of a slice's `ports` with a name and a number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EndpointPort {
    /// Names the Service port; empty for an unnamed port.
    pub name: Name,
    pub protocol: Protocol,
    /// The port that the pods listen on, in host byte order.
    pub port: u16,
}

/// An EndpointSlice of one address family that names its Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    pub key: SliceKey,
    /// From label `kubernetes.io/service-name`.
    pub service: ServiceKey,
    /// `addressType`.
    pub family: Family,
    /// Shared with other slices.
    pub ports: Shared<[EndpointPort]>,
    /// Those with an address.
    pub endpoints: Box<[Endpoint]>,
    /// `endpoints[].targetRef.name`. They matter to people only: a new name is not a change.
    pub pods: PodNames,
    /// Annotation `endpoints.kubernetes.io/last-change-trigger-time`, in Unix milliseconds: the
    /// time of the change that caused this version. Cleared on stored slices, so that a rewrite
    /// alone is not a change.
    pub triggered: Option<i64>,
}

impl EndpointSlice {
    /// Sets the endpoints and the names of their pods, sorted by address and without duplicates: an
    /// entry that is not terminating comes first, then a ready entry.
    pub fn set_endpoints(&mut self, mut named: Vec<(Endpoint, Option<&str>)>) {
        let is_normal = |all: &[(Endpoint, _)]| {
            all.is_sorted_by(|(one, _), (next, _)| one.address < next.address)
        };
        if !is_normal(&named) {
            named.sort_by_key(|(it, _)| (it.address, it.terminating, !it.is_ready()));
            named.dedup_by_key(|(it, _)| it.address);
        }
        let names: Vec<_> = named.iter().map(|(_, name)| *name).collect();
        self.pods = PodNames::pack(self.key.name(), &names);
        self.endpoints = named.into_iter().map(|(endpoint, _)| endpoint).collect();
    }

    /// Returns the index of the endpoint with an address, in a slice whose endpoints are sorted.
    pub(super) fn position(&self, ip: IpAddr) -> Option<usize> {
        self.endpoints.binary_search_by_key(&ip, |endpoint| endpoint.address).ok()
    }
}
