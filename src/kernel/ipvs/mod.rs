//! Pools as IPVS's virtual services and destinations.

mod connection_table;
mod convert;
mod failure;

use std::fs;
use std::net::SocketAddr;

use kube_ipvs_core::model::{Backends, Pool, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::{
    Observed, Outcome, RealCounters, Sample, SampleTargets, ServerOperation,
};
use netlink_ipvs::ipvs::{Connections, Destination, Forwarding, IpvsSocket, ServiceId, Traffic};
use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::modules;

pub use connection_table::{IpvsConnection, read_connections};
pub use convert::command;

/// What to do if IPVS does not add its counters up ([`Ipvs::adds_up`]).
pub const NOT_ADDED_UP: &str = "IPVS does not add its counters up, so that there are no rates: set \
                                net.ipv4.vs.run_estimation=1";

/// Operations per send: 64 KiB at most. Even if every operation fails, the answers fit the receive
/// buffer.
const CHUNK: usize = 512;

/// The pools of a network namespace. Reading fails if the kernel refuses or does not answer.
#[derive(Debug)]
pub struct Ipvs {
    pub socket: IpvsSocket,
}

impl Ipvs {
    /// Opens IPVS. Asking for its family makes the kernel load the module where it may.
    ///
    /// # Errors
    ///
    /// If the kernel has no IPVS, or the process lacks CAP_NET_ADMIN.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open(Subsystem::Generic)?)
    }

    /// Uses an open socket.
    pub(super) fn over(socket: Socket) -> Result<Self, KernelError> {
        // Before Linux 5.16 the module has no alias by which the kernel finds it for the family.
        Ok(Self { socket: IpvsSocket::over(socket, modules::load)? })
    }

    /// The traffic of every virtual server that can be a pool's.
    pub fn traffic(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.socket.traffic().map(of_pools)
    }

    /// The same per second, as IPVS estimates it.
    pub fn rates(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.socket.rates().map(of_pools)
    }

    /// Returns whether IPVS adds its counters up: not if `net.ipv4.vs.run_estimation`, which kernels
    /// before Linux 5.15 do not have, is 0.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let setting = fs::read("/proc/sys/net/ipv4/vs/run_estimation");
        setting.map_or(true, |value| value.trim_ascii() != b"0")
    }

    /// The connections and traffic of each real server of a virtual server; none if it does not exist.
    pub fn counters(
        &mut self,
        server: &VirtualAddress,
    ) -> Result<Vec<(SocketAddr, Connections, Traffic)>, KernelError> {
        let all = self.socket.destination_traffic(&convert::id(server))?.into_iter();
        let counters = |(it, connections, traffic): (Destination, _, _)| {
            (SocketAddr::new(it.ip, it.port), connections, traffic)
        };
        Ok(all.map(counters).collect())
    }

    /// Reads the counters that show which real servers answer. `None` if IPVS does not add them
    /// up ([`Self::adds_up`]).
    pub fn sample(&mut self, targets: &SampleTargets) -> Result<Option<Sample>, KernelError> {
        if !self.adds_up() {
            return Ok(None);
        }
        let mut sample = Sample::default();
        if targets.servers {
            let connections = |(server, traffic): (_, Traffic)| (server, traffic.connections);
            sample.servers = self.traffic()?.into_iter().map(connections).collect();
        }
        for server in &targets.real_servers {
            let counters = |(backend, present, traffic): (_, Connections, Traffic)| RealCounters {
                backend,
                connections: traffic.connections,
                packets_out: traffic.packets_out,
                active: present.active,
            };
            let counters = self.counters(server)?.into_iter().map(counters).collect();
            sample.real_servers.push((*server, counters));
        }
        Ok(Some(sample))
    }

    /// Reads into `pools` every virtual server with its real servers, except those that have a real
    /// server which is not masqueraded: no pool is ever such. All real servers are given as not local.
    /// Virtual servers whose real servers cannot be read go into `unread`.
    pub fn observe(&mut self) -> Result<Observed, KernelError> {
        let mut observed = Observed::default();
        // A virtual server that is missed here and no longer desired would never be recognised as
        // ours again.
        for server in self.socket.services()?.iter().filter_map(convert::server) {
            match self.pool(server) {
                Ok(pool) => observed.pools.extend(pool),
                Err(error) if error.is_of_one_object() => {
                    observed.unread.insert(server.address, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(observed)
    }

    /// The virtual server at an address, if there is one, as [`Ipvs::observe`] gives it.
    pub fn observe_server(
        &mut self,
        address: &VirtualAddress,
    ) -> Result<Option<Pool>, KernelError> {
        let service = self.socket.service(&convert::id(address))?;
        service.as_ref().and_then(convert::server).map_or(Ok(None), |server| self.pool(server))
    }

    fn pool(&mut self, server: VirtualServer) -> Result<Option<Pool>, KernelError> {
        let destinations = self.socket.destinations(&convert::id(&server.address))?;
        let server = VirtualServer { max_connections: convert::limit(&destinations), ..server };
        let destinations = || destinations.iter().map(|(destination, _)| destination);
        let is_ours = |it: &Destination| it.forwarding == Forwarding::Masquerade;
        let backends = || destinations().map(convert::backend).collect::<Backends>();
        Ok(destinations().all(is_ours).then(|| Pool { backends: backends(), ..server.into() }))
    }

    /// Carries out operations in their order, and returns the outcome of each. A failure does not
    /// stop the others. Removing what does not exist is no failure.
    pub fn apply(&mut self, operations: impl IntoIterator<Item = ServerOperation>) -> Vec<Outcome> {
        let operations: Vec<_> = operations.into_iter().collect();
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut commands = Vec::with_capacity(operations.len().min(CHUNK));
        for chunk in operations.chunks(CHUNK) {
            commands.clear();
            commands.extend(chunk.iter().map(command));
            match self.socket.apply(&commands) {
                Ok(answers) => outcomes.extend(chunk.iter().zip(answers).map(failure::outcome)),
                Err(error) => {
                    outcomes.extend(chunk.iter().map(|one| Err(failure::of_all(one, &error))));
                }
            }
        }
        outcomes
    }
}

fn of_pools(all: Vec<(ServiceId, Traffic)>) -> Vec<(VirtualAddress, Traffic)> {
    all.into_iter().filter_map(|(id, traffic)| Some((convert::address(id)?, traffic))).collect()
}
