//! Encoding of commands and requests.

use std::net::IpAddr;
use std::time::Duration;

use super::constants as c;
use super::{Destination, Forwarding, IpvsCommand, ServiceId, VirtualService};
use crate::{Attributes, Batch, Number, generic};

/// Appends the message of a command; `family` is the number of the IPVS family.
pub fn encode(batch: &mut Batch, family: u16, change: &IpvsCommand) {
    use IpvsCommand::{
        AddDestination, AddService, DeleteDestination, DeleteService, SetDestination, SetService,
    };
    batch.push(family, 0, |message| match change {
        AddService(added) => {
            command(message, c::CMD_NEW_SERVICE);
            message.nest(c::ATTR_SERVICE, |nest| service(nest, added));
        }
        SetService(changed) => {
            command(message, c::CMD_SET_SERVICE);
            message.nest(c::ATTR_SERVICE, |nest| service(nest, changed));
        }
        DeleteService(id) => of_service(message, c::CMD_DEL_SERVICE, id),
        AddDestination(id, added) => {
            of_service(message, c::CMD_NEW_DEST, id);
            message.nest(c::ATTR_DEST, |nest| destination(nest, added));
        }
        SetDestination(id, changed) => {
            of_service(message, c::CMD_SET_DEST, id);
            message.nest(c::ATTR_DEST, |nest| destination(nest, changed));
        }
        DeleteDestination(id, deleted) => {
            of_service(message, c::CMD_DEL_DEST, id);
            message.nest(c::ATTR_DEST, |nest| destination_identity(nest, deleted));
        }
    });
}

/// Appends the header of a command.
pub(super) fn command(message: &mut Attributes<'_>, command: u8) {
    generic::header(message, command, c::VERSION);
}

/// Appends a command on an existing service.
pub(super) fn of_service(message: &mut Attributes<'_>, number: u8, id: &ServiceId) {
    command(message, number);
    message.nest(c::ATTR_SERVICE, |nest| identity(nest, id));
}

/// Appends the command that sets the timeouts of idle connections, in whole seconds.
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
    if ip.is_ipv4() { c::AF_INET } else { c::AF_INET6 }
}

fn identity(nest: &mut Attributes<'_>, id: &ServiceId) {
    nest.numbers([
        Number::u16(c::SVC_AF, family_number(id.ip)),
        Number::u16(c::SVC_PROTOCOL, id.protocol.into()),
    ]);
    nest.ip(c::SVC_ADDR, id.ip);
    nest.u16_be(c::SVC_PORT, id.port);
}

fn service(nest: &mut Attributes<'_>, service: &VirtualService) {
    let ip = service.id.ip;
    let persistent = if service.persistence.is_some() { c::FLAG_PERSISTENT } else { 0 };
    let mut flags = [0; 8];
    flags[..4].copy_from_slice(&(service.flags | persistent).to_ne_bytes());
    // The mask: every flag is either set or cleared.
    flags[4..].copy_from_slice(&u32::MAX.to_ne_bytes());
    identity(nest, &service.id);
    nest.text(c::SVC_SCHED_NAME, &service.scheduler);
    nest.bytes(c::SVC_FLAGS, &flags);
    let all = if ip.is_ipv4() { 32 } else { 128 };
    let (seconds, prefix) = service.persistence.map_or((0, all), |it| (it.seconds, it.prefix));
    nest.u32(c::SVC_TIMEOUT, seconds);
    // A mask in network byte order for IPv4, a prefix length for IPv6.
    if ip.is_ipv4() {
        let host_bits = 32_u32.saturating_sub(prefix.into());
        nest.u32_be(c::SVC_NETMASK, u32::MAX.checked_shl(host_bits).unwrap_or(0));
    } else {
        nest.u32(c::SVC_NETMASK, prefix.into());
    }
}

fn destination_identity(nest: &mut Attributes<'_>, destination: &Destination) {
    nest.ip(c::DEST_ADDR, destination.ip);
    nest.numbers([
        Number::u16_be(c::DEST_PORT, destination.port),
        Number::u16(c::DEST_ADDR_FAMILY, family_number(destination.ip)),
    ]);
}

fn destination(nest: &mut Attributes<'_>, destination: &Destination) {
    destination_identity(nest, destination);
    let forwarding = match destination.forwarding {
        Forwarding::Masquerade => 0,
        Forwarding::Local => 1,
        Forwarding::Tunnel => 2,
        Forwarding::Route => 3,
        Forwarding::Other(number) => number,
    };
    nest.numbers([
        Number::u32(c::DEST_FWD_METHOD, forwarding),
        Number::u32(c::DEST_WEIGHT, destination.weight),
        Number::u32(c::DEST_U_THRESH, destination.upper_threshold),
        Number::u32(c::DEST_L_THRESH, destination.lower_threshold),
    ]);
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::super::Persistence;
    use super::*;

    const fn id(ip: [u8; 4], protocol: u8, port: u16) -> ServiceId {
        let [a, b, c, d] = ip;
        ServiceId { ip: IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)), port, protocol }
    }

    /// Returns the message of a command in hexadecimal, by words.
    fn message(change: &IpvsCommand) -> String {
        let mut batch = Batch::default();
        encode(&mut batch, 30, change);
        let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        batch.bytes().chunks(4).map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_destination_is_116_bytes() {
        let added = Destination::new([10, 244, 1, 7].into(), 5353);
        assert_eq!(
            message(&IpvsCommand::AddDestination(id([10, 96, 0, 10], ServiceId::UDP, 53), added)),
            [
                "74000000 1e000100 00000000 00000000 05010000",
                // The service: AF_INET, UDP, address, port.
                "24000180 06000100 02000000 06000200 11000000 08000300 0a60000a",
                "06000400 00350000",
                // The destination: address, port, AF_INET, masquerading, weight, no thresholds.
                "3c000280 08000100 0af40107 06000200 14e90000 06000b00 02000000",
                "08000300 00000000 08000400 01000000 08000500 00000000 08000600 00000000",
            ]
            .join(" ")
        );
    }

    #[test]
    fn a_service_has_scheduler_flags_timeout_and_mask() {
        let ip = "fd00::a".parse().expect("an address");
        let id = ServiceId { ip, port: 443, protocol: ServiceId::TCP };
        let changed = VirtualService {
            flags: VirtualService::SCHED_2,
            persistence: Some(Persistence { seconds: 10_800, prefix: 128 }),
            ..VirtualService::new(id, "mh")
        };
        assert_eq!(
            message(&IpvsCommand::SetService(changed)),
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
    fn deletions_name_the_service_alone() {
        assert_eq!(
            message(&IpvsCommand::DeleteService(id([10, 96, 0, 10], ServiceId::TCP, 53))),
            [
                "38000000 1e000100 00000000 00000000 03010000",
                "24000180 06000100 02000000 06000200 06000000 08000300 0a60000a",
                "06000400 00350000",
            ]
            .join(" ")
        );
    }
}
