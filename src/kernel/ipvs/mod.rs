//! Pools as IPVS's virtual services and destinations.

mod apply;
mod connection_table;
mod convert;
mod failure;
mod observe;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_ipvs_core::model::VirtualAddress;
use kube_ipvs_core::plan::{Sample, SampleTargets};
use netlink_ipvs::ipvs::{Connections, Destination, Info, IpvsSocket, ServiceId, Traffic};
use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::modules;

pub use connection_table::{IpvsConnection, read_connections};
pub use convert::command;
pub use observe::IpvsObserved;

/// What to do if IPVS does not add its counters up ([`Ipvs::adds_up`]).
pub const NOT_ADDED_UP: &str = "IPVS does not add its counters up, so that there are no rates: set \
                                net.ipv4.vs.run_estimation=1";

/// The pools of this process's network namespace.
#[derive(Debug)]
pub struct Ipvs(IpvsSocket);

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
        IpvsSocket::over(socket, modules::load).map(Self)
    }

    /// The type of IPVS's messages.
    #[must_use]
    pub fn family(&self) -> u16 {
        self.0.family()
    }

    /// Version and size of the connection table.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn info(&mut self) -> Result<Info, KernelError> {
        self.0.info()
    }

    /// Sets the timeouts of idle connections ([`IpvsSocket::set_timeouts`]).
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn set_timeouts(
        &mut self,
        tcp: Option<Duration>,
        tcp_fin: Option<Duration>,
        udp: Option<Duration>,
    ) -> Result<(), KernelError> {
        self.0.set_timeouts(tcp, tcp_fin, udp)
    }

    /// The traffic of every virtual server that can be a pool's.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn traffic(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.0.traffic().map(of_pools)
    }

    /// The same per second, as IPVS estimates it.
    ///
    /// # Errors
    ///
    /// As [`Self::traffic`].
    pub fn rates(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.0.rates().map(of_pools)
    }

    /// Returns whether IPVS adds its counters up: not if `net.ipv4.vs.run_estimation`, which kernels
    /// before Linux 5.15 do not have, is 0.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let setting = fs::read("/proc/sys/net/ipv4/vs/run_estimation");
        setting.map_or(true, |value| value.trim_ascii() != b"0")
    }

    /// The connections and traffic of each real server of a virtual server.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn counters(
        &mut self,
        server: &VirtualAddress,
    ) -> Result<Vec<(SocketAddr, Connections, Traffic)>, KernelError> {
        let all = self.0.destination_traffic(&convert::id(server))?.into_iter();
        let counters = |(it, connections, traffic): (Destination, _, _)| {
            (SocketAddr::new(it.ip, it.port), connections, traffic)
        };
        Ok(all.map(counters).collect())
    }

    /// Reads the counters that show which real servers answer. `None` if IPVS does not add them
    /// up ([`Self::adds_up`]).
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
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
            let all = self.0.destination_traffic(&convert::id(server))?.into_iter();
            let counters = all.map(|(it, now, traffic)| convert::counters(&it, now, traffic));
            sample.real_servers.push((*server, counters.collect()));
        }
        Ok(Some(sample))
    }

    /// The connections of each real server of a virtual server; none if it does not exist.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn connections(
        &mut self,
        server: &VirtualAddress,
    ) -> Result<Vec<(IpAddr, u16, Connections)>, KernelError> {
        let all = self.0.destinations(&convert::id(server))?.into_iter();
        Ok(all.map(|(it, connections)| (it.ip, it.port, connections)).collect())
    }
}

fn of_pools(all: Vec<(ServiceId, Traffic)>) -> Vec<(VirtualAddress, Traffic)> {
    all.into_iter().filter_map(|(id, traffic)| Some((convert::address(id)?, traffic))).collect()
}
