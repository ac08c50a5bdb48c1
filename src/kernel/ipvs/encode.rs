//! Operations as messages.

use std::net::IpAddr;
use std::time::Duration;

use super::constants as c;
use crate::kernel::netlink::{Attributes, Batch, Number};
use kube_ipvs_core::model::{Backend, Family, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::ServerOperation;

/// Appends the message of an operation; `family` is the number of the IPVS family.
pub fn encode(batch: &mut Batch, family: u16, operation: &ServerOperation) {
    batch.push(family, 0, |message| match operation {
        ServerOperation::Add(added) => {
            command(message, c::CMD_NEW_SERVICE);
            message.nest(c::ATTR_SERVICE, |nest| server(nest, added));
        }
        ServerOperation::Set(changed) => {
            command(message, c::CMD_SET_SERVICE);
            message.nest(c::ATTR_SERVICE, |nest| server(nest, changed));
        }
        ServerOperation::Delete(address) => {
            command(message, c::CMD_DEL_SERVICE);
            message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
        }
        ServerOperation::AddReal(address, added) => {
            command(message, c::CMD_NEW_DEST);
            message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
            message.nest(c::ATTR_DEST, |nest| backend(nest, added));
        }
        ServerOperation::SetReal(address, changed) => {
            command(message, c::CMD_SET_DEST);
            message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
            message.nest(c::ATTR_DEST, |nest| backend(nest, changed));
        }
        ServerOperation::DeleteReal(address, deleted) => {
            command(message, c::CMD_DEL_DEST);
            message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
            message.nest(c::ATTR_DEST, |nest| backend_identity(nest, deleted));
        }
    });
}

/// The generic netlink header of a command (`struct genlmsghdr`).
pub(super) fn command(message: &mut Attributes<'_>, command: u8) {
    message.raw(&[command, c::VERSION, 0, 0]);
}

/// The request for the real servers of a virtual server.
pub(super) fn get_backends(message: &mut Attributes<'_>, address: &VirtualAddress) {
    command(message, c::CMD_GET_DEST);
    message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
}

/// The request for one virtual server.
pub(super) fn get_server(message: &mut Attributes<'_>, address: &VirtualAddress) {
    command(message, c::CMD_GET_SERVICE);
    message.nest(c::ATTR_SERVICE, |nest| identity(nest, address));
}

/// The request that sets how long idle connections are kept, in whole seconds.
pub(super) fn timeouts(
    message: &mut Attributes<'_>,
    tcp: Option<Duration>,
    tcp_fin: Option<Duration>,
    udp: Option<Duration>,
) {
    command(message, c::CMD_SET_CONFIG);
    let timeouts = [
        (c::ATTR_TIMEOUT_TCP, tcp),
        (c::ATTR_TIMEOUT_TCP_FIN, tcp_fin),
        (c::ATTR_TIMEOUT_UDP, udp),
    ];
    for (kind, timeout) in timeouts {
        if let Some(timeout) = timeout {
            message.u32(kind, u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
        }
    }
}

fn family_number(ip: IpAddr) -> u16 {
    match Family::of(ip) {
        Family::V4 => c::AF_INET,
        Family::V6 => c::AF_INET6,
    }
}

fn identity(nest: &mut Attributes<'_>, address: &VirtualAddress) {
    nest.numbers([
        Number::u16(c::SVC_AF, family_number(address.ip)),
        Number::u16(c::SVC_PROTOCOL, address.protocol.number().into()),
    ]);
    nest.ip(c::SVC_ADDR, address.ip);
    nest.u16_be(c::SVC_PORT, address.port);
}

fn server(nest: &mut Attributes<'_>, server: &VirtualServer) {
    let persistent = if server.affinity_seconds.is_some() { c::FLAG_PERSISTENT } else { 0 };
    let mut flags = [0; 8];
    flags[..4].copy_from_slice(&(server.flags | persistent).to_ne_bytes());
    // All flags are ours to set.
    flags[4..].copy_from_slice(&u32::MAX.to_ne_bytes());
    identity(nest, &server.address);
    nest.text(c::SVC_SCHED_NAME, server.scheduler.name());
    nest.bytes(c::SVC_FLAGS, &flags);
    nest.u32(c::SVC_TIMEOUT, server.affinity_seconds.unwrap_or(0));
    // Affinity of single addresses: a mask for IPv4, a prefix length for IPv6.
    let netmask = match Family::of(server.address.ip) {
        Family::V4 => u32::MAX,
        Family::V6 => 128,
    };
    nest.u32(c::SVC_NETMASK, netmask);
}

fn backend_identity(nest: &mut Attributes<'_>, backend: &Backend) {
    nest.ip(c::DEST_ADDR, backend.address);
    nest.numbers([
        Number::u16_be(c::DEST_PORT, backend.port),
        Number::u16(c::DEST_ADDR_FAMILY, family_number(backend.address)),
    ]);
}

fn backend(nest: &mut Attributes<'_>, backend: &Backend) {
    backend_identity(nest, backend);
    nest.numbers([
        // Masquerading, without thresholds.
        Number::u32(c::DEST_FWD_METHOD, 0),
        Number::u32(c::DEST_WEIGHT, backend.weight.into()),
        Number::u32(c::DEST_U_THRESH, 0),
        Number::u32(c::DEST_L_THRESH, 0),
    ]);
}

#[cfg(all(test, target_endian = "little"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use kube_ipvs_core::model::Scheduler;

    /// The message of an operation, in hexadecimal, words apart.
    fn message(operation: &ServerOperation) -> String {
        let mut batch = Batch::default();
        encode(&mut batch, 30, operation);
        let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        batch.bytes().chunks(4).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_real_server_is_116_bytes() {
        let address = "10.96.0.10:53/udp".parse().unwrap();
        let ip = "10.244.1.7".parse().unwrap();
        let added = Backend { address: ip, port: 5353, weight: 1, local: true };
        assert_eq!(
            message(&ServerOperation::AddReal(address, added)),
            [
                "74000000 1e000100 00000000 00000000 05010000",
                // The virtual server: AF_INET, UDP, address, port.
                "24000180 06000100 02000000 06000200 11000000 08000300 0a60000a",
                "06000400 00350000",
                // The real server: address, port, AF_INET, masquerading, weight, no thresholds.
                "3c000280 08000100 0af40107 06000200 14e90000 06000b00 02000000",
                "08000300 00000000 08000400 01000000 08000500 00000000 08000600 00000000",
            ]
            .join(" ")
        );
    }

    #[test]
    fn a_virtual_server_has_scheduler_flags_timeout_and_mask() {
        let changed = VirtualServer {
            address: "[fd00::a]:443".parse().unwrap(),
            scheduler: Scheduler::Mh,
            flags: VirtualServer::FLAG_SCHED_2,
            affinity_seconds: Some(10_800),
        };
        assert_eq!(
            message(&ServerOperation::Set(changed)),
            [
                "68000000 1e000100 00000000 00000000 02010000",
                "54000180 06000100 0a000000 06000200 06000000",
                "14000300 fd000000 00000000 00000000 0000000a 06000400 01bb0000",
                "07000600 6d680000 0c000700 11000000 ffffffff 08000800 302a0000 08000900 80000000",
            ]
            .join(" ")
        );
    }

    #[test]
    fn removals_name_what_goes_and_no_more() {
        let address: VirtualAddress = "10.96.0.10:53".parse().unwrap();
        assert_eq!(
            message(&ServerOperation::Delete(address)),
            [
                "38000000 1e000100 00000000 00000000 03010000",
                "24000180 06000100 02000000 06000200 06000000 08000300 0a60000a",
                "06000400 00350000",
            ]
            .join(" ")
        );
    }
}
