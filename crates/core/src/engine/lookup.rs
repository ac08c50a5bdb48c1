//! Look-ups in the desired state by address.

use super::DesiredState;
use crate::model::{DesiredService, Frontend, ServiceKey, VirtualAddress};
use crate::plan::{Carrier, Running};

impl DesiredState {
    /// Returns the Service of a virtual server, which may be at a shadow address of its ClusterIP.
    #[must_use]
    pub fn pool_owner(&self, server: &VirtualAddress) -> Option<&ServiceKey> {
        let has_it =
            |key: &&ServiceKey| self.service(key).is_some_and(|it| it.pool(server).is_some());
        let of_shadow = || server.perhaps_shadowed().filter_map(|at| self.owner(&at)).find(has_it);
        self.owner(server).or_else(of_shadow)
    }

    /// Returns the addresses of the front ends that may match the packets to an address: the address
    /// itself, and that of a node port.
    pub(crate) fn matching(
        &self,
        address: VirtualAddress,
    ) -> impl Iterator<Item = VirtualAddress> + use<> {
        let takes_node_ports = self.node().node_port_ips.contains(&address.ip);
        let node_port = takes_node_ports.then(|| address.at(address.family().unspecified()));
        [Some(address), node_port].into_iter().flatten()
    }

    /// Returns the front ends at these addresses.
    pub fn frontends_at(&self, address: VirtualAddress) -> impl Iterator<Item = &Frontend> {
        self.found_at(address).map(|(.., frontend)| frontend)
    }

    /// Returns the same front ends, each with its Service and the Service's desired state.
    pub(crate) fn found_at(
        &self,
        address: VirtualAddress,
    ) -> impl Iterator<Item = (&ServiceKey, &DesiredService, &Frontend)> {
        self.matching(address).filter_map(|at| self.frontend(&at))
    }

    /// Returns whether the agent owns a virtual server at this address, even if another program
    /// created it: a Service has a front end there, or may have a ClusterIP.
    #[must_use]
    pub fn is_ours(&self, address: &VirtualAddress) -> bool {
        self.context().is_in_service_range(address.ip)
            || self.frontends_at(*address).next().is_some()
    }

    /// Returns the virtual servers that may have scheduled these connections, and that drain them
    /// after the removal of the real server. There is none if the front end still uses the
    /// endpoint: connection tracking then carries them, whichever pool scheduled them.
    #[must_use]
    pub fn pools_of(&self, connections: &Running) -> Vec<VirtualAddress> {
        let Running { frontend: at, backend, carrier, .. } = *connections;
        let leads_there = |(_, program, frontend): (&ServiceKey, &DesiredService, &Frontend)| {
            let targets = frontend.targets().map(|target| frontend.pool_of(target));
            targets.iter().flatten().filter_map(|at| program.pool(at)).any(|pool| {
                pool.backends.iter().any(|it| it.socket() == backend && !it.is_draining())
            })
        };
        match carrier {
            Carrier::Ipvs => vec![at],
            Carrier::Tracking if self.found_at(at).any(leads_there) => Vec::new(),
            Carrier::Tracking => self.frontends_at(at).flat_map(Frontend::places).collect(),
        }
    }
}
