//! What answers need of the kernel besides the engine's state.

use kube_ipvs_core::model::VirtualAddress;
use netlink_ipvs::KernelError;

use super::{ConnectionsView, ServiceView, StatusView, TrafficOrder, connections, traffic};

/// Readers of the kernel, each of which may block.
#[derive(Clone, Copy, Debug)]
pub struct KernelReaders {
    /// Adds the counters of IPVS to a status.
    pub count: fn(&mut StatusView) -> Result<(), KernelError>,
    /// Returns the virtual servers with traffic, the busiest first.
    pub busiest: fn(TrafficOrder) -> Result<Vec<VirtualAddress>, KernelError>,
    /// Returns the connections of a Service, at most so many.
    pub connections: fn(&ServiceView, usize) -> Result<ConnectionsView, KernelError>,
}

impl KernelReaders {
    /// The readers of this network namespace, which is the agent's.
    pub const HERE: Self = Self {
        count: traffic::count,
        busiest: traffic::busiest,
        connections: connections::connections,
    };
}
