//! Requests to rtnetlink.

use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{DEVICE, Family, ROUTE_METRIC, ROUTE_PROTOCOL, Route};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::LOOPBACK_INDEX;
use crate::kernel::family;

/// `RT_TABLE_LOCAL`.
pub(super) const TABLE_LOCAL: u32 = 255;

/// Returns the `NLM_F_*` of a request.
pub(super) fn flags(request: &RouteNetlinkMessage) -> u16 {
    match request {
        RouteNetlinkMessage::NewLink(_) => NLM_F_CREATE | NLM_F_EXCL,
        RouteNetlinkMessage::NewRoute(_) => NLM_F_CREATE | NLM_F_REPLACE,
        _ => 0,
    }
}

/// Returns the bytes after the netlink header.
pub(super) fn body(request: &RouteNetlinkMessage) -> Vec<u8> {
    let mut body = vec![0; request.buffer_len()];
    request.serialize(&mut body);
    body
}

/// Describes the device with this index; with 0 the device that an attribute names.
fn device(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = attributes;
    link
}

pub(super) fn get_device(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(device(0, vec![LinkAttribute::IfName(name.to_owned())]))
}

/// Creates [`DEVICE`], down and without addresses, as kube-proxy does.
pub(super) fn create_device() -> RouteNetlinkMessage {
    let name = LinkAttribute::IfName(DEVICE.to_owned());
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]);
    RouteNetlinkMessage::NewLink(device(0, vec![name, kind]))
}

/// Keeps the kernel from giving a device link-local addresses.
pub(super) fn without_addresses(index: u32) -> RouteNetlinkMessage {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let of_families = vec![AfSpecUnspec::Inet6(vec![mode])];
    RouteNetlinkMessage::SetLink(device(index, vec![LinkAttribute::AfSpecUnspec(of_families)]))
}

pub(super) fn raise_device(index: u32) -> RouteNetlinkMessage {
    let mut link = device(index, Vec::new());
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(link)
}

/// Leads an address to a device, in the main table. The route goes with the device.
pub(super) fn lead_to_device(ip: IpAddr, device: u32) -> RouteNetlinkMessage {
    let mut message = route_to(ip.into());
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(device));
    RouteNetlinkMessage::NewRoute(message)
}

pub(super) fn delete_device(index: u32) -> RouteNetlinkMessage {
    RouteNetlinkMessage::DelLink(device(index, Vec::new()))
}

pub(super) fn dump_links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

fn routes_of(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message
}

fn route_to(prefix: IpNet) -> RouteMessage {
    let mut message = routes_of(Family::of(prefix.addr()));
    message.header.destination_prefix_length = prefix.prefix_len();
    // The callers add four at most.
    message.attributes.reserve(5);
    message.attributes.push(RouteAttribute::Destination(prefix.network().into()));
    message
}

/// Adds a route, or replaces our route to the same prefix.
///
/// The kernel replaces any route with the same prefix, table and metric, and each address of the
/// node has a local route of metric 0. So our routes have another metric: they replace only each
/// other, and routes of the kernel precede them.
pub(super) fn add_route(route: &Route) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewRoute(route_message(route))
}

/// Deletes a route. Of several with this prefix, table and metric, only the one with our protocol
/// number on the loopback device matches.
pub(super) fn delete_route(route: &Route) -> RouteNetlinkMessage {
    let any_source = Route { source: None, ..*route };
    RouteNetlinkMessage::DelRoute(route_message(&any_source))
}

pub(super) fn route_message(route: &Route) -> RouteMessage {
    let mut message = route_to(route.prefix);
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes.extend([
        RouteAttribute::Table(TABLE_LOCAL),
        RouteAttribute::Priority(ROUTE_METRIC),
        RouteAttribute::Oif(LOOPBACK_INDEX),
    ]);
    let source = route.source.map(RouteAddress::from);
    message.attributes.extend(source.map(RouteAttribute::PrefSource));
    message
}

/// Asks for the routes of a family that may be ours.
pub(super) fn dump_routes(family: Family) -> RouteNetlinkMessage {
    let mut message = routes_of(family);
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.attributes =
        vec![RouteAttribute::Table(TABLE_LOCAL), RouteAttribute::Oif(LOOPBACK_INDEX)];
    RouteNetlinkMessage::GetRoute(message)
}

/// Deletes an address with a prefix of its whole length from a device.
pub(super) fn delete_address(ip: IpAddr, device: u32) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(ip));
    message.header.prefix_len = IpNet::from(ip).prefix_len();
    message.header.index = device;
    message.attributes = vec![AddressAttribute::Local(ip)];
    RouteNetlinkMessage::DelAddress(message)
}

pub(super) fn dump_all_addresses() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetAddress(AddressMessage::default())
}

/// Asks for the routes of a family in all tables.
pub(super) fn dump_all_routes(family: Family) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetRoute(routes_of(family))
}

/// Asks for the route of a packet from the node to an address.
pub(super) fn get_route(to: IpAddr) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetRoute(route_to(to.into()))
}

pub(super) fn dump_rules(family: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    RouteNetlinkMessage::GetRule(message)
}

pub(super) fn address_family(of: Family) -> AddressFamily {
    family::number(of).into()
}
