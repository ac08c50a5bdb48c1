//! What has gone through virtual servers, as IPVS counts it.

use std::ops::AddAssign;

use super::{Ipvs, constants as c, decode, encode};
use crate::kernel::netlink::KernelError;
use kube_ipvs_core::model::VirtualAddress;

/// What has gone through a virtual server since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Connections, or flows of a protocol that has none.
    pub connections: u64,
    /// Packets of clients.
    pub packets_in: u64,
    /// Packets of real servers.
    pub packets_out: u64,
    /// Bytes of clients.
    pub bytes_in: u64,
    /// Bytes of real servers.
    pub bytes_out: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.packets_in += other.packets_in;
        self.packets_out += other.packets_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

impl Ipvs {
    /// What has gone through every virtual server but those chosen by firewall mark.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn traffic(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.with_family(|socket, family| {
            socket.dump(
                "IPVS statistics",
                family,
                |message| encode::command(message, c::CMD_GET_SERVICE),
                |found: &mut Vec<_>, _, payload| {
                    let server = decode::server(payload);
                    found.extend(server.map(|server| (server.address, statistics(payload))));
                },
            )
        })
    }
}

/// Reads the statistics of a virtual server; a kernel before 4.1 has none that are long enough.
fn statistics(payload: &[u8]) -> Traffic {
    let mut traffic = Traffic::default();
    let service = decode::body(payload, c::ATTR_SERVICE);
    let mut all = service.into_iter().flat_map(|service| service.nested());
    let Some(statistics) = all.find(|attribute| attribute.kind == c::SVC_STATS64) else {
        return traffic;
    };
    for count in statistics.nested() {
        let number = count.u64().unwrap_or_default();
        match count.kind {
            c::STATS_CONNECTIONS => traffic.connections = number,
            c::STATS_PACKETS_IN => traffic.packets_in = number,
            c::STATS_PACKETS_OUT => traffic.packets_out = number,
            c::STATS_BYTES_IN => traffic.bytes_in = number,
            c::STATS_BYTES_OUT => traffic.bytes_out = number,
            _ => {}
        }
    }
    traffic
}
