//! What of the kernel's answers is ours.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};

use super::message::{LOOPBACK, TABLE_LOCAL};
use crate::kernel::netlink::attributes;
use crate::model::{
    Family, ROUTE_METRIC, ROUTE_PROTOCOL, ROUTE_TABLE, RULE_PRIORITY, Route, RouteTable,
};

const LINK_HEADER_BYTES: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;

/// A network device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `dummy`, `bridge`, …; empty for hardware.
    pub(super) kind: String,
    pub(super) up: bool,
}

/// Reads RTM_NEWLINK (`struct ifinfomsg` and attributes, native byte order). Only the few
/// attributes that matter are looked at: a device of a kind that nobody knows yet is no error.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_at_checked(LINK_HEADER_BYTES)?;
    let word = |at: usize| header.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let (index, flags) = (word(4)?, word(8)?);
    let mut link =
        Link { index, name: String::new(), kind: String::new(), up: flags & IFF_UP != 0 };
    for attribute in attributes(rest) {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text()?.to_owned(),
            IFLA_LINKINFO => {
                let kind = attribute.nested().find(|inner| inner.kind == IFLA_INFO_KIND);
                link.kind = kind.and_then(|kind| kind.text()).unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// A local route on some device, ours or not.
struct LocalRoute {
    protocol: RouteProtocol,
    prefix: IpNet,
    table: u32,
    source: Option<IpAddr>,
    metric: u32,
    device: Option<u32>,
}

/// Reads RTM_NEWROUTE, if it is a local route.
fn local_route(body: &[u8]) -> Option<LocalRoute> {
    let RouteMessage { header, attributes, .. } = RouteMessage::parse(body).ok()?;
    if header.kind != RouteType::Local {
        return None;
    }
    // The default route has no destination.
    let mut destination = unspecified(family(header.address_family)?);
    let mut table = u32::from(header.table);
    let (mut source, mut metric, mut device) = (None, 0, None);
    for attribute in &attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::PrefSource(address) => source = Some(ip(address)?),
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(LocalRoute { protocol: header.protocol, prefix, table, source, metric, device })
}

/// Reads RTM_NEWROUTE, if it is one of our routes on the device with this index.
pub(super) fn own_route(body: &[u8], device: u32) -> Option<Route> {
    let LocalRoute { protocol, prefix, table, source, metric, device: on } = local_route(body)?;
    let is_ours = protocol == RouteProtocol::from(ROUTE_PROTOCOL)
        && metric == ROUTE_METRIC
        && on == Some(device);
    if is_ours { Some(Route { prefix, table: own_table(table)?, source }) } else { None }
}

/// Reads RTM_NEWADDR: an IPv4 address of the device with this index.
pub(super) fn address(body: &[u8], device: u32) -> Option<Ipv4Addr> {
    let message = AddressMessage::parse(body).ok()?;
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    });
    local.filter(|_| message.header.index == device)
}

/// Reads RTM_NEWADDR: any device's index and address, the node's end where there are two.
pub(super) fn any_address(body: &[u8]) -> Option<(u32, IpAddr)> {
    let message = AddressMessage::parse(body).ok()?;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => return Some((message.header.index, *ip)),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    address.map(|ip| (message.header.index, ip))
}

/// Reads RTM_NEWROUTE, if it is the kernel's own local route for an IPv4 address of the device with
/// this index.
pub(super) fn kernels_route(body: &[u8], device: u32) -> Option<Ipv4Addr> {
    let route = local_route(body)?;
    match route.prefix {
        IpNet::V4(prefix)
            if prefix.prefix_len() == 32
                && route.protocol == RouteProtocol::Kernel
                && route.device == Some(device) =>
        {
            Some(prefix.addr())
        }
        _ => None,
    }
}

/// Reads RTM_NEWRULE: the family, if it is exactly the rule of earlier versions.
pub(super) fn own_rule(body: &[u8]) -> Option<Family> {
    let message = RuleMessage::parse(body).ok()?;
    let ours = [
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::Table(ROUTE_TABLE),
        RuleAttribute::Iifname(LOOPBACK.to_owned()),
    ];
    let is_ours = message.header.flags.contains(RuleFlags::Invert)
        && ours.iter().all(|attribute| message.attributes.contains(attribute));
    if is_ours { family(message.header.family) } else { None }
}

fn own_table(number: u32) -> Option<RouteTable> {
    match number {
        TABLE_LOCAL => Some(RouteTable::Local),
        ROUTE_TABLE => Some(RouteTable::Own),
        _ => None,
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::message;
    use super::*;

    fn routes() -> impl Strategy<Value = Route> {
        let ipv4 =
            (any::<u32>(), 0u8..=32, any::<Option<u32>>()).prop_map(|(ip, length, source)| {
                (
                    IpNet::new(IpAddr::from(ip.to_be_bytes()), length),
                    source.map(|s| IpAddr::from(s.to_be_bytes())),
                )
            });
        let ipv6 =
            (any::<u128>(), 0u8..=128, any::<Option<u128>>()).prop_map(|(ip, length, source)| {
                (
                    IpNet::new(IpAddr::from(ip.to_be_bytes()), length),
                    source.map(|s| IpAddr::from(s.to_be_bytes())),
                )
            });
        let table = prop_oneof![Just(RouteTable::Local), Just(RouteTable::Own)];
        (prop_oneof![ipv4, ipv6], table).prop_map(|((prefix, source), table)| Route {
            prefix: prefix.unwrap().trunc(),
            table,
            source,
        })
    }

    proptest! {
        #[test]
        fn a_route_reads_back_as_it_was_written(route in routes(), device in 1u32..) {
            let body = message::add_route(&route, device).body();
            prop_assert_eq!(own_route(&body, device), Some(route));
            prop_assert_eq!(own_route(&body, device - 1), None);
        }

        #[test]
        fn nothing_received_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = own_route(&body, 1);
            let _ = own_rule(&body);
            let _ = link(&body);
        }

        /// Right at the start, arbitrary from some byte on.
        #[test]
        fn nothing_torn_panics(
            route in routes(),
            at in 0usize..60,
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut body = message::add_route(&route, 7).body();
            body.truncate(at);
            body.extend(tail);
            let _ = own_route(&body, 7);
        }
    }

    #[test]
    fn a_rule_reads_back_as_ours() {
        for family in Family::BOTH {
            assert_eq!(own_rule(&message::delete_rule(family).body()), Some(family));
        }
    }

    #[test]
    fn our_device_reads_back() {
        let link = link(&message::create_device().body()).unwrap();
        assert_eq!(
            (link.name.as_str(), link.kind.as_str(), link.up),
            ("kube-ipvs", "dummy", false)
        );
    }
}
