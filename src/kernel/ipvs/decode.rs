//! Answers as values. Unknown attributes are passed over; what does not fit is `None`.

use super::constants as c;
use crate::kernel::netlink::{Attribute, attributes};
use kube_ipvs_core::model::{Backend, Family, Protocol, Scheduler, VirtualAddress, VirtualServer};

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// What IPVS says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Version as `0x00MMmmpp`.
    pub version: u32,
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

/// Connections of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Established.
    pub active: u32,
    /// Closing, or of a protocol without states.
    pub inactive: u32,
    /// Clients that stay with it by affinity.
    pub persistent: u32,
}

impl Connections {
    /// All of them; affinity alone is none.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.active) + u64::from(self.inactive)
    }
}

/// A real server as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RealServer {
    /// `local` is not the kernel's to know: false.
    pub(super) backend: Backend,
    /// Whether it is reached by masquerading, as ours are.
    pub(super) masquerades: bool,
    pub(super) connections: Connections,
}

pub(super) fn body(payload: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(payload.get(GENERIC_HEADER..)?).find(|attribute| attribute.kind == kind)
}

/// Reads the answer to `GET_INFO`.
pub(super) fn info(payload: &[u8]) -> Info {
    let mut info = Info::default();
    for attribute in attributes(payload.get(GENERIC_HEADER..).unwrap_or_default()) {
        match (attribute.kind, attribute.u32()) {
            (c::INFO_VERSION, Some(version)) => info.version = version,
            (c::INFO_CONN_TAB_SIZE, Some(size)) => info.connection_table_size = size,
            _ => {}
        }
    }
    info
}

/// Reads a virtual server. `None` for one that is chosen by firewall mark: never ours.
pub(super) fn server(payload: &[u8]) -> Option<VirtualServer> {
    let (mut family, mut protocol, mut address, mut port) = (None, None, None, None);
    let (mut scheduler, mut flags, mut timeout) = (Scheduler::Unknown, 0, 0);
    for attribute in body(payload, c::ATTR_SERVICE)?.nested() {
        match attribute.kind {
            c::SVC_AF => family = attribute.u16().and_then(family_of),
            c::SVC_PROTOCOL => {
                let number = attribute.u16().and_then(|number| u8::try_from(number).ok());
                protocol = number.and_then(Protocol::from_number);
            }
            c::SVC_ADDR => address = Some(attribute),
            c::SVC_PORT => port = attribute.u16_be(),
            c::SVC_FWMARK => return None,
            c::SVC_SCHED_NAME => {
                scheduler = attribute.text().and_then(Scheduler::from_name).unwrap_or(scheduler);
            }
            c::SVC_FLAGS => flags = attribute.u32()?,
            c::SVC_TIMEOUT => timeout = attribute.u32()?,
            _ => {}
        }
    }
    let address = VirtualAddress { ip: address?.ip(family?)?, port: port?, protocol: protocol? };
    Some(VirtualServer {
        address,
        scheduler,
        flags: flags & !(c::FLAG_HASHED | c::FLAG_PERSISTENT),
        affinity_seconds: (flags & c::FLAG_PERSISTENT != 0).then_some(timeout),
    })
}

/// Reads a real server of a virtual server of this family.
pub(super) fn real_server(payload: &[u8], of: Family) -> Option<RealServer> {
    let (mut family, mut address, mut port, mut weight) = (of, None, None, None);
    let (mut method, mut connections) = (None, Connections::default());
    for attribute in body(payload, c::ATTR_DEST)?.nested() {
        let number = attribute.u32();
        match attribute.kind {
            c::DEST_ADDR => address = Some(attribute),
            c::DEST_PORT => port = attribute.u16_be(),
            c::DEST_FWD_METHOD => method = number,
            c::DEST_WEIGHT => weight = number,
            c::DEST_ACTIVE_CONNS => connections.active = number?,
            c::DEST_INACT_CONNS => connections.inactive = number?,
            c::DEST_PERSIST_CONNS => connections.persistent = number?,
            c::DEST_ADDR_FAMILY => family = attribute.u16().and_then(family_of)?,
            _ => {}
        }
    }
    let backend = Backend {
        address: address?.ip(family)?,
        port: port?,
        // Weights above what we set are not ours; any value that differs will do.
        weight: u16::try_from(weight?).unwrap_or(u16::MAX),
        local: false,
    };
    Some(RealServer { backend, masquerades: method? & c::FORWARD_MASK == 0, connections })
}

fn family_of(number: u16) -> Option<Family> {
    match number {
        c::AF_INET => Some(Family::V4),
        c::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::ipvs::encode;
    use crate::kernel::netlink::{Batch, messages};
    use kube_ipvs_core::plan::ServerOperation;

    fn payload(operation: &ServerOperation) -> Vec<u8> {
        let mut batch = Batch::default();
        encode(&mut batch, 30, operation);
        let (_, payload) = messages(batch.bytes()).next().expect("one message");
        payload.to_vec()
    }

    fn any_address() -> impl Strategy<Value = VirtualAddress> {
        let protocol = proptest::sample::select(Protocol::ALL.to_vec());
        (any::<std::net::IpAddr>(), any::<u16>(), protocol)
            .prop_map(|(ip, port, protocol)| VirtualAddress { ip, port, protocol })
    }

    proptest! {
        #[test]
        fn virtual_servers_round_trip(
            address in any_address(),
            scheduler in proptest::sample::select(Scheduler::ALL.to_vec()),
            affinity_seconds in proptest::option::of(1u32..90_000),
        ) {
            let flags = scheduler.default_flags();
            let sent = VirtualServer { address, scheduler, flags, affinity_seconds };
            prop_assert_eq!(server(&payload(&ServerOperation::Add(sent))), Some(sent));
        }

        #[test]
        fn real_servers_round_trip(
            server in any_address(), address in any::<std::net::IpAddr>(),
            port in any::<u16>(), weight in any::<u16>(),
        ) {
            let sent = Backend { address, port, weight, local: false };
            let read = real_server(&payload(&ServerOperation::AddReal(server, sent)), Family::V4);
            prop_assert_eq!(read.map(|read| (read.backend, read.masquerades)), Some((sent, true)));
        }

        #[test]
        fn arbitrary_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = (server(&bytes), real_server(&bytes, Family::V6), info(&bytes));
        }
    }
}
