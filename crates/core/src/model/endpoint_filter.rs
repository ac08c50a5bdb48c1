//! Selection of the endpoints that serve a node.

use std::ops::AddAssign;

use super::{Backend, Endpoint, Name};

/// The node's name and zone: they decide which endpoints are local and which hints apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Locality {
    pub node: Name,
    pub zone: Option<Name>,
}

/// Selects the serving endpoints of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointFilter {
    Ready,
    /// Ready, with a hint for this node.
    ReadyForNode,
    /// Ready, with a hint for this zone.
    ReadyForZone,
    /// Ready, on this node.
    ReadyHere,
    Draining,
    /// Terminating but still serving, on this node.
    DrainingHere,
}

impl EndpointFilter {
    /// Returns the backend that an endpoint becomes under this filter. Terminating endpoints that
    /// still serve stay with weight 0, for their established connections.
    pub(super) fn backend(
        self,
        endpoint: &Endpoint,
        port: u16,
        locality: &Locality,
    ) -> Option<Backend> {
        let local = is_local(endpoint, locality);
        let draining = endpoint.is_draining();
        let serves = match self {
            Self::Ready => endpoint.ready,
            Self::ReadyForNode => endpoint.ready && is_for_node(endpoint, locality),
            Self::ReadyForZone => endpoint.ready && is_for_zone(endpoint, locality),
            Self::ReadyHere => endpoint.ready && local,
            Self::Draining => draining,
            Self::DrainingHere => draining && local,
        };
        let drains = draining && (local || !matches!(self, Self::ReadyHere | Self::DrainingHere));
        (serves || drains).then_some(Backend {
            address: endpoint.address,
            port,
            weight: u16::from(serves),
            local,
        })
    }
}

/// Numbers of a port's endpoints by condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndpointCounts {
    pub ready: u32,
    /// On this node.
    pub ready_here: u32,
    /// With a hint for any node.
    pub node_hinted: u32,
    /// With a hint for this node.
    pub for_node: u32,
    /// With a hint for any zone.
    pub zone_hinted: u32,
    /// With a hint for this zone.
    pub for_zone: u32,
    /// Terminating but still serving.
    pub draining: u32,
    /// Terminating but still serving, on this node.
    pub draining_here: u32,
}

impl EndpointCounts {
    pub(super) fn of(endpoint: &Endpoint, locality: &Locality) -> Self {
        let mut counts = Self::default();
        let local = is_local(endpoint, locality);
        if endpoint.ready {
            counts.ready = 1;
            counts.ready_here = local.into();
            counts.node_hinted = (!endpoint.topology.for_nodes.is_empty()).into();
            counts.zone_hinted = (!endpoint.topology.for_zones.is_empty()).into();
            counts.for_node = is_for_node(endpoint, locality).into();
            counts.for_zone = is_for_zone(endpoint, locality).into();
        } else if endpoint.is_draining() {
            counts.draining = 1;
            counts.draining_here = local.into();
        }
        counts
    }
}

impl AddAssign for EndpointCounts {
    fn add_assign(&mut self, other: Self) {
        self.ready += other.ready;
        self.ready_here += other.ready_here;
        self.node_hinted += other.node_hinted;
        self.for_node += other.for_node;
        self.zone_hinted += other.zone_hinted;
        self.for_zone += other.for_zone;
        self.draining += other.draining;
        self.draining_here += other.draining_here;
    }
}

pub(super) fn is_local(endpoint: &Endpoint, locality: &Locality) -> bool {
    endpoint.topology.node.as_ref() == Some(&locality.node)
}

fn is_for_node(endpoint: &Endpoint, locality: &Locality) -> bool {
    endpoint.topology.for_nodes.contains(&locality.node)
}

fn is_for_zone(endpoint: &Endpoint, locality: &Locality) -> bool {
    locality.zone.as_ref().is_some_and(|zone| endpoint.topology.for_zones.contains(zone))
}
