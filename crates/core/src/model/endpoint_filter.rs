//! Selection of the endpoints that serve a node, and their weights.

use std::ops::AddAssign;

use super::{Backend, Endpoint, LocalityWeights, Name};

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

/// Selects the endpoints of a port and gives them weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointSelection {
    pub filter: EndpointFilter,
    pub weights: Option<LocalityWeights>,
    /// Multiplies all weights.
    pub scale: u32,
}

impl From<EndpointFilter> for EndpointSelection {
    fn from(filter: EndpointFilter) -> Self {
        Self { filter, weights: None, scale: 1 }
    }
}

impl EndpointSelection {
    /// Returns the backend that an endpoint becomes. Endpoints that drain stay with weight 0, for
    /// their established connections, unless the filter selects them for lack of others.
    pub(super) fn backend(
        self,
        endpoint: &Endpoint,
        port: u16,
        locality: &Locality,
    ) -> Option<Backend> {
        let local = is_local(endpoint, locality);
        let (ready, draining) = (endpoint.is_ready(), endpoint.is_draining());
        let serves = match self.filter {
            EndpointFilter::Ready => ready,
            EndpointFilter::ReadyForNode => ready && is_for_node(endpoint, locality),
            EndpointFilter::ReadyForZone => ready && is_for_zone(endpoint, locality),
            EndpointFilter::ReadyHere => ready && local,
            EndpointFilter::Draining => draining,
            EndpointFilter::DrainingHere => draining && local,
        };
        let is_of_node =
            matches!(self.filter, EndpointFilter::ReadyHere | EndpointFilter::DrainingHere);
        let drains = draining && (local || !is_of_node);
        (serves || drains).then(|| Backend {
            address: endpoint.address,
            port,
            weight: if serves { self.weight(endpoint, local, locality) } else { 0 },
            local,
        })
    }

    /// At most 65535 times 1000 times the scale, which the kernel's `int` holds for a scale of up
    /// to 32.
    fn weight(self, endpoint: &Endpoint, local: bool, locality: &Locality) -> u32 {
        let factor = self.weights.map_or(1, |weights| {
            let zone = &endpoint.topology.zone;
            match local {
                true => weights.node,
                false if zone.is_some() && *zone == locality.zone => weights.zone,
                false => weights.other,
            }
        });
        // An endpoint in maintenance that serves for lack of others has weight 0.
        u32::from(endpoint.weight.max(1)) * u32::from(factor) * self.scale
    }
}

/// Numbers of a port's endpoints by condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EndpointCounts {
    pub ready: u32,
    /// With another weight than 1.
    pub weighted: u32,
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
        if endpoint.is_ready() {
            counts.ready = 1;
            counts.weighted = (endpoint.weight != 1).into();
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
        self.weighted += other.weighted;
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
