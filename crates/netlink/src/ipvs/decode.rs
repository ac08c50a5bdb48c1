//! Decoding of answers. Unknown attributes are ignored; a value of the wrong size becomes `None`.

use std::net::IpAddr;

use super::constants as c;
use super::{
    Connections, Destination, Forwarding, Info, Persistence, ServiceId, Traffic, VirtualService,
};
use crate::generic::HEADER_LENGTH;
use crate::{Attribute, attributes, find};

fn body(payload: &[u8], kind: u16) -> Option<Attribute<'_>> {
    find(payload.get(HEADER_LENGTH..)?, kind)
}

/// Decodes the answer to `GET_INFO`.
pub(super) fn info(payload: &[u8]) -> Info {
    let mut info = Info::default();
    for attribute in attributes(payload.get(HEADER_LENGTH..).unwrap_or_default()) {
        match (attribute.kind, attribute.u32()) {
            (c::INFO_VERSION, Some(version)) => info.version = version,
            (c::INFO_CONN_TAB_SIZE, Some(size)) => info.connection_table_size = size,
            _ => {}
        }
    }
    info
}

/// Decodes a virtual service; `None` for a service that is selected by a firewall mark.
pub(super) fn service(payload: &[u8]) -> Option<VirtualService> {
    let (mut family, mut protocol, mut address, mut port) = (None, None, None, None);
    let (mut scheduler, mut flags, mut timeout, mut mask) = ("", 0, 0, None);
    for attribute in body(payload, c::ATTR_SERVICE)?.nested() {
        match attribute.kind {
            c::SVC_AF => family = attribute.u16(),
            c::SVC_PROTOCOL => {
                protocol = attribute.u16().and_then(|number| u8::try_from(number).ok());
            }
            c::SVC_ADDR => address = Some(attribute),
            c::SVC_PORT => port = attribute.u16_be(),
            c::SVC_FWMARK => return None,
            c::SVC_SCHED_NAME => scheduler = attribute.text().unwrap_or_default(),
            c::SVC_FLAGS => flags = attribute.u32()?,
            c::SVC_TIMEOUT => timeout = attribute.u32()?,
            c::SVC_NETMASK => mask = Some(attribute),
            _ => {}
        }
    }
    let id = ServiceId { ip: ip(&address?, family?)?, port: port?, protocol: protocol? };
    let mask = mask.and_then(|it| it.u32());
    let prefix =
        if id.ip.is_ipv4() { mask.map_or(32, u32::count_ones) } else { mask.unwrap_or(128) };
    let prefix = u8::try_from(prefix).unwrap_or(128);
    Some(VirtualService {
        id,
        scheduler: scheduler.to_owned(),
        flags: flags & !(c::FLAG_HASHED | c::FLAG_PERSISTENT),
        persistence: (flags & c::FLAG_PERSISTENT != 0)
            .then_some(Persistence { seconds: timeout, prefix }),
    })
}

/// Decodes a destination of a service with the address `of`, and its connections.
pub(super) fn destination(payload: &[u8], of: IpAddr) -> Option<(Destination, Connections)> {
    // Before Linux 3.18 a destination has the family of its service.
    let mut family = if of.is_ipv4() { c::AF_INET } else { c::AF_INET6 };
    let (mut address, mut port, mut weight, mut method) = (None, None, None, None);
    let (mut thresholds, mut connections) = ((0, 0), Connections::default());
    for attribute in body(payload, c::ATTR_DEST)?.nested() {
        let number = attribute.u32();
        match attribute.kind {
            c::DEST_ADDR => address = Some(attribute),
            c::DEST_PORT => port = attribute.u16_be(),
            c::DEST_FWD_METHOD => method = number,
            c::DEST_WEIGHT => weight = number,
            c::DEST_U_THRESH => thresholds.0 = number?,
            c::DEST_L_THRESH => thresholds.1 = number?,
            c::DEST_ACTIVE_CONNS => connections.active = number?,
            c::DEST_INACT_CONNS => connections.inactive = number?,
            c::DEST_PERSIST_CONNS => connections.persistent = number?,
            c::DEST_ADDR_FAMILY => family = attribute.u16()?,
            _ => {}
        }
    }
    let forwarding = match method? & c::FORWARD_MASK {
        0 => Forwarding::Masquerade,
        1 => Forwarding::Local,
        2 => Forwarding::Tunnel,
        3 => Forwarding::Route,
        number => Forwarding::Other(number),
    };
    let (upper_threshold, lower_threshold) = thresholds;
    let destination = Destination {
        ip: ip(&address?, family)?,
        port: port?,
        forwarding,
        weight: weight?,
        upper_threshold,
        lower_threshold,
    };
    Some((destination, connections))
}

/// Decodes the traffic of a virtual service: zero before Linux 4.1, which has 32-bit counters.
pub(super) fn service_traffic(payload: &[u8]) -> Traffic {
    traffic(payload, [c::ATTR_SERVICE, c::SVC_STATS64], c::STATS_CONNECTIONS)
}

/// The same per second, as IPVS estimates it.
pub(super) fn service_rates(payload: &[u8]) -> Traffic {
    traffic(payload, [c::ATTR_SERVICE, c::SVC_STATS64], c::STATS_RATES)
}

/// The same of a destination.
pub(super) fn destination_traffic(payload: &[u8]) -> Traffic {
    traffic(payload, [c::ATTR_DEST, c::DEST_STATS64], c::STATS_CONNECTIONS)
}

/// Decodes the figures from the attribute `first` on.
fn traffic(payload: &[u8], [object, statistics]: [u16; 2], first: u16) -> Traffic {
    let mut traffic = Traffic::default();
    let object = body(payload, object);
    let Some(statistics) = object.and_then(|object| object.find(statistics)) else {
        return traffic;
    };
    for count in statistics.nested() {
        let number = count.u64().unwrap_or_default();
        match count.kind.wrapping_sub(first - c::STATS_CONNECTIONS) {
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

fn ip(address: &Attribute<'_>, family: u16) -> Option<IpAddr> {
    match family {
        c::AF_INET => address.ipv4(),
        c::AF_INET6 => address.ipv6(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{IpvsCommand, encode};
    use super::*;
    use crate::{Batch, messages};

    fn payload(command: &IpvsCommand) -> Vec<u8> {
        let mut batch = Batch::default();
        encode(&mut batch, 30, command);
        let (_, payload) = messages(batch.bytes()).next().expect("one message");
        payload.to_vec()
    }

    fn any_id() -> impl Strategy<Value = ServiceId> {
        (any::<IpAddr>(), any::<u16>(), any::<u8>()).prop_map(|(ip, port, protocol)| ServiceId {
            ip,
            port,
            protocol,
        })
    }

    #[test]
    fn traffic_is_that_of_the_object() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).expect("short");
            [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
        };
        let statistics = |kind, first: u64| {
            let count = |kind: u16| attribute(kind, &(first + u64::from(kind)).to_ne_bytes());
            attribute(kind, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(count).concat())
        };
        let expected = |first: u64| Traffic {
            connections: first + 1,
            packets_in: first + 2,
            packets_out: first + 3,
            bytes_in: first + 4,
            bytes_out: first + 5,
        };
        // `IPVS_SVC_ATTR_STATS64` and `IPVS_DEST_ATTR_STATS64` have the same number.
        let header = vec![0; HEADER_LENGTH];
        let service =
            [header.clone(), attribute(c::ATTR_SERVICE, &statistics(12, 1 << 40))].concat();
        let destination = [header, attribute(c::ATTR_DEST, &statistics(12, 100))].concat();
        assert_eq!(service_traffic(&service), expected(1 << 40));
        assert_eq!(service_rates(&service), expected((1 << 40) + 5));
        assert_eq!(destination_traffic(&destination), expected(100));
        assert_eq!(destination_traffic(&service), Traffic::default());
    }

    proptest! {
        #[test]
        fn services_round_trip(
            id in any_id(), scheduler in "[a-z]{2,15}", flags in 0u32..8,
            persistence in proptest::option::of((1u32..90_000, 1u8..=32)),
        ) {
            let persistence = persistence.map(|(seconds, prefix)| Persistence { seconds, prefix });
            let sent = VirtualService { id, scheduler, flags: flags << 2, persistence };
            let read = service(&payload(&IpvsCommand::AddService(sent.clone())));
            prop_assert_eq!(read, Some(sent));
        }

        #[test]
        fn destinations_round_trip(
            id in any_id(), ip in any::<IpAddr>(), port in any::<u16>(), weight: u32,
            upper_threshold: u32, lower_threshold: u32, method in 0u32..5,
        ) {
            let forwarding = match method {
                0 => Forwarding::Masquerade,
                1 => Forwarding::Local,
                2 => Forwarding::Tunnel,
                3 => Forwarding::Route,
                number => Forwarding::Other(number),
            };
            let sent = Destination {
                ip, port, forwarding, weight, upper_threshold, lower_threshold,
            };
            let read = destination(&payload(&IpvsCommand::AddDestination(id, sent)), id.ip);
            prop_assert_eq!(read, Some((sent, Connections::default())));
        }

        #[test]
        fn arbitrary_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), of: IpAddr,
        ) {
            let _ = (service(&bytes), destination(&bytes, of), info(&bytes));
            let _ = (service_traffic(&bytes), destination_traffic(&bytes));
        }
    }
}
