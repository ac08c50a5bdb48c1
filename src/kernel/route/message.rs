//! Requests to rtnetlink, as values.

use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{DEVICE, Family, ROUTE_METRIC, ROUTE_PROTOCOL, Route};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkSerializable};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::family;

/// `RT_TABLE_LOCAL`.
pub(super) const TABLE_LOCAL: u32 = 255;

/// A request: a message with its flags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    message: RouteNetlinkMessage,
    pub(super) flags: u16,
}

impl Request {
    pub(super) fn new(message: RouteNetlinkMessage, flags: u16) -> Self {
        Self { message, flags }
    }

    /// `RTM_*`.
    pub(super) fn kind(&self) -> u16 {
        self.message.message_type()
    }

    /// The bytes after the netlink header.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = vec![0; self.message.buffer_len()];
        self.message.serialize(&mut body);
        body
    }
}

pub(super) fn get_device(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request::new(RouteNetlinkMessage::GetLink(link), 0)
}

/// Creates [`DEVICE`], down and without addresses, as kube-proxy does.
pub(super) fn create_device() -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(DEVICE.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Dummy)]),
    ];
    Request::new(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

pub(super) fn delete_device(device: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = device;
    Request::new(RouteNetlinkMessage::DelLink(link), 0)
}

pub(super) fn dump_links() -> Request {
    Request::new(RouteNetlinkMessage::GetLink(LinkMessage::default()), 0)
}

/// Adds a route, or replaces our route to the same prefix.
///
/// The kernel replaces any route with the same prefix, table and metric, and each address of the
/// node has a local route of metric 0. So our routes have a metric of their own: they replace only
/// each other, and yield to routes of the kernel.
pub(super) fn add_route(route: &Route, device: u32) -> Request {
    let message = RouteNetlinkMessage::NewRoute(route_message(route, TABLE_LOCAL, device));
    Request::new(message, NLM_F_CREATE | NLM_F_REPLACE)
}

/// Removes a route; of the same prefix, table and metric, only one with our protocol number on that
/// device matches.
pub(super) fn delete_route(route: &Route, table: u32, device: u32) -> Request {
    let any_source = Route { source: None, ..*route };
    Request::new(RouteNetlinkMessage::DelRoute(route_message(&any_source, table, device)), 0)
}

fn route_message(route: &Route, table: u32, device: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(route.family());
    message.header.destination_prefix_length = route.prefix.prefix_len();
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes = vec![
        RouteAttribute::Table(table),
        RouteAttribute::Destination(RouteAddress::from(route.prefix.network())),
        RouteAttribute::Priority(ROUTE_METRIC),
        RouteAttribute::Oif(device),
    ];
    message.attributes.extend(route.source.map(prefsrc));
    message
}

fn prefsrc(source: IpAddr) -> RouteAttribute {
    RouteAttribute::PrefSource(RouteAddress::from(source))
}

/// Asks for the routes of one family in one table that may be ours.
pub(super) fn dump_routes(family: Family, table: u32, device: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL);
    message.attributes = vec![RouteAttribute::Table(table), RouteAttribute::Oif(device)];
    Request::new(RouteNetlinkMessage::GetRoute(message), 0)
}

/// Removes an address without a prefix from a device.
pub(super) fn delete_address(ip: IpAddr, device: u32) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(ip));
    message.header.prefix_len = IpNet::from(ip).prefix_len();
    message.header.index = device;
    message.attributes = vec![AddressAttribute::Local(ip)];
    Request::new(RouteNetlinkMessage::DelAddress(message), 0)
}

pub(super) fn dump_all_addresses() -> Request {
    Request::new(RouteNetlinkMessage::GetAddress(AddressMessage::default()), 0)
}

/// Asks for the routes of one family in all tables.
pub(super) fn dump_all_routes(family: Family) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    Request::new(RouteNetlinkMessage::GetRoute(message), 0)
}

/// Asks for the route of a packet of the node to an address.
pub(super) fn get_route(to: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(to));
    message.header.destination_prefix_length = Family::of(to).host_prefix();
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(to))];
    Request::new(RouteNetlinkMessage::GetRoute(message), 0)
}

pub(super) fn dump_rules(family: Family) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    Request::new(RouteNetlinkMessage::GetRule(message), 0)
}

/// rtnetlink's name of a family.
pub(super) fn address_family(of: Family) -> AddressFamily {
    family::number(of).into()
}
