//! Reads the kernel's answers and notifications. Only the needed attributes are read, so a device of an
//! unknown kind is no error.

use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{Family, ROUTE_METRIC, ROUTE_PROTOCOL, Route};
use netlink_ipvs::{Attribute, attributes, find};

use super::LOOPBACK_INDEX;
use super::message::TABLE_LOCAL;
use crate::kernel::family;

/// Bytes of `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtmsg`.
const LINK_HEADER_BYTES: usize = 16;
pub(super) const ADDRESS_HEADER_BYTES: usize = 8;
const ROUTE_HEADER_BYTES: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// `IFA_F_TENTATIVE` and `IFA_F_DADFAILED`.
const UNUSABLE: u32 = 0x40 | 0x08;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
/// `RTN_LOCAL`
const LOCAL: u8 = 2;
/// `RTN_UNICAST`, `_BLACKHOLE`, `_UNREACHABLE`, `_PROHIBIT`, `_THROW`.
const OUTWARD: [u8; 5] = [1, 6, 7, 8, 9];
/// `RTM_F_CLONED`: a cached route to one destination.
const CLONED: u32 = 0x200;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DumpedLink {
    pub(super) index: u32,
    pub(super) name: String,
    /// `dummy`, `bridge`, …; empty for hardware.
    pub(super) kind: String,
    pub(super) up: bool,
}

/// Reads RTM_NEWLINK (`struct ifinfomsg` and attributes, native byte order).
pub(super) fn link(body: &[u8]) -> Option<DumpedLink> {
    let (header, rest) = body.split_at_checked(LINK_HEADER_BYTES)?;
    let word = |at: usize| header.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let (index, flags) = (word(4)?, word(8)?);
    let name = find(rest, IFLA_IFNAME)?.text()?.to_owned();
    let kind = find(rest, IFLA_LINKINFO).and_then(|info| info.find(IFLA_INFO_KIND)?.text());
    let kind = kind.unwrap_or_default().to_owned();
    Some(DumpedLink { index, name, kind, up: flags & IFF_UP != 0 })
}

/// Reads RTM_NEWROUTE (`struct rtmsg` and attributes, native byte order), if the route is ours.
pub(super) fn own_route(body: &[u8]) -> Option<Route> {
    let (header, rest) = body.split_at_checked(ROUTE_HEADER_BYTES)?;
    let &[family_number, length, _, _, table, protocol, _, kind, ..] = header else { return None };
    if (protocol, kind) != (ROUTE_PROTOCOL, LOCAL) {
        return None;
    }
    let family = family::of_number(family_number)?;
    // The default route has no destination.
    let mut destination = family.unspecified();
    let (mut table, mut device, mut metric, mut source) = (u32::from(table), 0, 0, None);
    for attribute in attributes(rest) {
        match attribute.kind {
            RTA_TABLE => table = attribute.u32()?,
            RTA_OIF => device = attribute.u32()?,
            RTA_PRIORITY => metric = attribute.u32()?,
            RTA_DST => destination = ip_of(&attribute, family)?,
            RTA_PREFSRC => source = Some(ip_of(&attribute, family)?),
            _ => {}
        }
    }
    let is_ours = (table, device, metric) == (TABLE_LOCAL, LOOPBACK_INDEX, ROUTE_METRIC);
    let prefix = IpNet::new(destination, length).ok()?;
    is_ours.then_some(Route { prefix, source })
}

/// An address of a device: the near end of a point-to-point device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InterfaceAddress {
    pub(super) device: u32,
    pub(super) ip: IpAddr,
    /// Whether duplicate address detection has succeeded.
    pub(super) usable: bool,
}

/// Reads RTM_NEWADDR (`struct ifaddrmsg` and attributes, native byte order).
pub(super) fn address(body: &[u8]) -> Option<InterfaceAddress> {
    let (header, rest) = body.split_at_checked(ADDRESS_HEADER_BYTES)?;
    let family = family::of_number(*header.first()?)?;
    let device = u32::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    let ip = |kind| ip_of(&find(rest, kind)?, family);
    let more_flags = find(rest, IFA_FLAGS).and_then(|flags| flags.u32());
    let flags = u32::from(*header.get(2)?) | more_flags.unwrap_or_default();
    let ip = ip(IFA_LOCAL).or_else(|| ip(IFA_ADDRESS))?;
    Some(InterfaceAddress { device, ip, usable: flags & UNUSABLE == 0 })
}

/// Reads RTM_NEWROUTE of a route to another host: the device, if the route names one, and the
/// destination. Most routes in the kernel may be ours or local, which the header shows, so
/// attributes are read last.
pub(super) fn destination(body: &[u8]) -> Option<(Option<u32>, IpNet)> {
    let (header, rest) = body.split_at_checked(ROUTE_HEADER_BYTES)?;
    let &[family_number, length, _, _, table, protocol, _, kind, ref flags @ ..] = header else {
        return None;
    };
    let is_others = length > 0
        && u32::from(table) != TABLE_LOCAL
        && protocol != ROUTE_PROTOCOL
        && OUTWARD.contains(&kind)
        && u32::from_ne_bytes(*flags.first_chunk()?) & CLONED == 0;
    if !is_others {
        return None;
    }
    let family = family::of_number(family_number)?;
    let ip = ip_of(&find(rest, RTA_DST)?, family)?;
    let device = find(rest, RTA_OIF).and_then(|device| device.u32());
    Some((device, IpNet::new(ip, length).ok()?.trunc()))
}

/// Reads RTM_NEWROUTE: the source address of packets that take the route.
pub(super) fn preferred_source(body: &[u8]) -> Option<IpAddr> {
    let (header, rest) = body.split_at_checked(ROUTE_HEADER_BYTES)?;
    let family = family::of_number(*header.first()?)?;
    ip_of(&find(rest, RTA_PREFSRC)?, family)
}

fn ip_of(attribute: &Attribute<'_>, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => attribute.ipv4(),
        Family::V6 => attribute.ipv6(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use netlink_ipvs::{Attributes, Number};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::route::RouteAttribute;
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
        prop_oneof![ipv4, ipv6]
            .prop_map(|(prefix, source)| Route { prefix: prefix.unwrap().trunc(), source })
    }

    proptest! {
        #[test]
        fn a_route_reads_back_as_it_was_written(route in routes(), device in 2u32..) {
            prop_assert_eq!(own_route(&added(&route)), Some(route));
            let with = |place: usize, attribute: RouteAttribute| {
                let mut message = message::route_message(&route);
                message.attributes[place] = attribute;
                own_route(&message::body(&RouteNetlinkMessage::NewRoute(message)))
            };
            prop_assert_eq!(with(1, RouteAttribute::Table(7575)), None);
            prop_assert_eq!(with(2, RouteAttribute::Priority(0)), None);
            prop_assert_eq!(with(3, RouteAttribute::Oif(device)), None);
            prop_assert_eq!(with(3, RouteAttribute::Oif(LOOPBACK_INDEX)), Some(route));
        }

        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = own_route(&body);
            let _ = link(&body);
            let _ = address(&body);
            let _ = destination(&body);
        }

        /// Correct up to some byte, arbitrary after it.
        #[test]
        fn no_truncated_message_causes_a_panic(
            route in routes(),
            at in 0usize..60,
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut body = added(&route);
            body.truncate(at);
            body.extend(tail);
            let _ = own_route(&body);
        }

        #[test]
        fn routes_of_ours_lead_to_no_others(route in routes()) {
            prop_assert_eq!(destination(&added(&route)), None);
        }
    }

    fn added(route: &Route) -> Vec<u8> {
        message::body(&message::add_route(route))
    }

    fn written<const N: usize>(header: [u8; N], fill: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
        let mut body = header.to_vec();
        fill(&mut Attributes::new(&mut body));
        body
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_the_nodes_end_and_usable_once_it_is_known_to_be_unique() {
        let peer = written([2, 32, 0, 0, 2, 0, 0, 0], |it| {
            it.ip(IFA_ADDRESS, ip("192.0.2.2"));
            it.ip(IFA_LOCAL, ip("192.0.2.1"));
        });
        let own = InterfaceAddress { device: 2, ip: ip("192.0.2.1"), usable: true };
        assert_eq!(address(&peer), Some(own));
        let v6 = |short: u8, long: u32| {
            written([10, 64, short, 0, 3, 0, 0, 0], |it| {
                it.ip(IFA_ADDRESS, ip("fd00::7"));
                it.numbers([Number::u32(IFA_FLAGS, long)]);
            })
        };
        for (short, long, usable) in
            [(0x80, 0x280, true), (0x40, 0xc0, false), (0, 0x40, false), (0x88, 0x88, false)]
        {
            let expected = InterfaceAddress { device: 3, ip: ip("fd00::7"), usable };
            assert_eq!(address(&v6(short, long)), Some(expected), "{short:#x} {long:#x}");
        }
    }

    #[test]
    fn routes_lead_to_others_whatever_becomes_of_the_packets() {
        let with = |length: u8, table: u8, protocol: u8, kind: u8, flags: u32| {
            let [f0, f1, f2, f3] = flags.to_ne_bytes();
            let header = [2, length, 0, 0, table, protocol, 0, kind, f0, f1, f2, f3];
            written(header, |it| {
                it.ip(RTA_DST, ip("10.244.2.0"));
                it.numbers([Number::u32(RTA_OIF, 4)]);
            })
        };
        let leads =
            |body: Vec<u8>| destination(&body) == Some((Some(4), "10.244.2.0/24".parse().unwrap()));
        assert!([254, 253, 252, 100].iter().all(|table| leads(with(24, *table, 3, 1, 0))));
        assert!(OUTWARD.iter().all(|kind| leads(with(24, 254, 2, *kind, 0))));
        // Local, broadcast, anycast, multicast, translated.
        assert!(
            [2, 3, 4, 5, 10].iter().all(|kind| destination(&with(24, 254, 2, *kind, 0)).is_none())
        );
        for other in [
            with(0, 254, 3, 1, 0),
            with(24, 255, 3, 1, 0),
            with(24, 254, ROUTE_PROTOCOL, 1, 0),
            with(24, 254, 3, 1, CLONED),
            with(33, 254, 3, 1, 0),
        ] {
            assert_eq!(destination(&other), None, "{other:?}");
        }
    }

    #[test]
    fn our_device_reads_back() {
        let link = link(&message::body(&message::create_device())).unwrap();
        assert_eq!(
            (link.name.as_str(), link.kind.as_str(), link.up),
            ("kube-ipvs0", "dummy", false)
        );
    }
}
