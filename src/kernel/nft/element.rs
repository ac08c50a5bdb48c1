//! Conversion between elements of the model and entries of the kernel's sets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use kube_ipvs_core::model::{
    AddressSet, Element, Family, InterfaceName, InterfaceSet, Interfaces, Leads, OnePacketLeads,
    PortSet, RangeSet,
};

use super::key::{Fields, SetKey};
use super::table::TableFamily;

/// An entry of one set, or a link of the flowtable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SetEntry {
    pub(super) table: TableFamily,
    pub(super) set: &'static str,
    pub(super) content: Content,
}

impl SetEntry {
    pub(super) fn is_link(&self) -> bool {
        matches!(self.content, Content::Link(_))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// A key, with a value in a map.
    Key(SetKey, Option<SetKey>),
    /// A range: its first address, and the address after its last one, if there is one. The kernel
    /// stores a range as two elements.
    Range(SetKey, Option<SetKey>),
    Link(InterfaceName),
    /// The first and the last key of a range in the last field of a concatenation. The kernel stores
    /// it as one element.
    Span(SetKey, SetKey),
}

/// Returns the entries of an element: one in the table of its family, or one in each table without a
/// family, and one in table `arp` for a pool's address, which must not be claimed there.
pub(super) fn entries(element: &Element) -> impl Iterator<Item = SetEntry> {
    let (set, content) = (element.set(), content(element));
    let family = element.family();
    let tables = Family::BOTH.into_iter().filter(move |other| family.is_none_or(|it| it == *other));
    let is_claimed_by_arp =
        family == Some(Family::V4) && matches!(element, Element::Address(AddressSet::Pools, _));
    tables
        .map(TableFamily::from)
        .chain(is_claimed_by_arp.then_some(TableFamily::Arp))
        .map(move |table| SetEntry { table, set, content })
}

fn content(element: &Element) -> Content {
    match element {
        Element::Range(_, net) => range(*net),
        Element::Interfaces(_, interfaces) => range(names(*interfaces)),
        Element::Address(set, ip) => {
            let key = SetKey::EMPTY.address(*ip);
            Content::Key(if set.is_of_pairs() { key.address(*ip) } else { key }, None)
        }
        Element::Port(_, address) => Content::Key(SetKey::frontend(address), None),
        Element::Lead(_, address, ip, port) => {
            Content::Key(SetKey::frontend(address), Some(SetKey::EMPTY.address(*ip).port(*port)))
        }
        Element::OnePacket(_, address, ip) => {
            Content::Key(SetKey::frontend(address), Some(SetKey::EMPTY.address(*ip)))
        }
        Element::OnePacketPort(address, port) => {
            Content::Key(SetKey::frontend(address), Some(SetKey::only_port(*port)))
        }
        Element::OffloadLink(name) => Content::Link(*name),
        Element::Allowed(address, net) => {
            let key = SetKey::frontend(address);
            Content::Span(key.address(net.network()), key.address(net.broadcast()))
        }
    }
}

fn range(net: IpNet) -> Content {
    let after = at_distance(net.broadcast(), 1).map(|ip| SetKey::EMPTY.address(ip));
    Content::Range(SetKey::EMPTY.address(net.network()), after)
}

/// Returns interface names as an IPv6 prefix: the kernel compares the sixteen bytes of both in the
/// same way.
fn names(interfaces: Interfaces) -> IpNet {
    let (name, len) = match interfaces {
        Interfaces::Named(name) => (name, 128),
        Interfaces::Prefixed(name) => (name, 8 * name.as_str().len() as u8),
    };
    Ipv6Net::new_assert(name.bytes().into(), len).into()
}

/// Reverses [`names`].
fn interfaces(names: IpNet) -> Option<Interfaces> {
    let IpNet::V6(names) = names else { return None };
    let bytes = names.network().octets();
    let text = str::from_utf8(&bytes).ok()?.trim_end_matches('\0');
    let name = text.parse().ok()?;
    match usize::from(names.prefix_len()) {
        128 => Some(Interfaces::Named(name)),
        len if len == 8 * text.len() => Some(Interfaces::Prefixed(name)),
        _ => None,
    }
}

/// Returns the address at a distance, if there is one.
fn at_distance(ip: IpAddr, distance: i8) -> Option<IpAddr> {
    Some(match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add_signed(distance.into())?).into(),
        IpAddr::V6(ip) => {
            Ipv6Addr::from(u128::from(ip).checked_add_signed(distance.into())?).into()
        }
    })
}

/// Splits a range into prefixes. A range that this program wrote is one prefix.
fn prefixes(first: IpAddr, last: IpAddr) -> Vec<IpNet> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    }
}

/// An element in a message of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RawElement<'a> {
    /// The key, or the first key of a span.
    pub(super) key: &'a [u8],
    /// The last key of a span.
    pub(super) key_end: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// Set if a range ends before this key.
    pub(super) ends_range: bool,
}

/// Assembles the elements of one set from messages in any order. Elements that no version of this
/// program writes are left out.
#[derive(Debug, Default)]
pub(super) struct ElementReader {
    elements: Vec<Element>,
    /// The addresses at which ranges end (false) or begin (true).
    ends: Vec<(IpAddr, bool)>,
}

impl ElementReader {
    pub(super) fn read(&mut self, table: TableFamily, set: &str, raw: &RawElement<'_>) {
        let family = key_family(table, set);
        match set {
            set if is_of_ranges(set) => {
                let ip = Fields(raw.key).address(family);
                self.ends.extend(ip.map(|ip| (ip, !raw.ends_range)));
            }
            "allowed" => self.elements.extend(allowed(family, raw).into_iter().flatten()),
            set => self.elements.extend(element(set, family, raw)),
        }
    }

    /// Returns the elements, each range split into prefixes.
    pub(super) fn finish(self, table: TableFamily, set: &str) -> Vec<Element> {
        if !is_of_ranges(set) {
            return self.elements;
        }
        let ranges = ranges(key_family(table, set), self.ends).into_iter();
        ranges.filter_map(|net| range_element(set, net)).collect()
    }
}

fn is_of_ranges(set: &str) -> bool {
    RangeSet::named(set).is_some() || InterfaceSet::named(set).is_some()
}

fn range_element(set: &str, net: IpNet) -> Option<Element> {
    if let Some(set) = RangeSet::named(set) {
        return Some(Element::Range(set, net));
    }
    Some(Element::Interfaces(InterfaceSet::named(set)?, interfaces(net)?))
}

/// Returns the family of a set's keys. Interface names are read as IPv6 addresses.
fn key_family(table: TableFamily, set: &str) -> Family {
    InterfaceSet::named(set).map_or(table.addresses(), |_| Family::V6)
}

fn element(set: &str, family: Family, raw: &RawElement<'_>) -> Option<Element> {
    let mut key = Fields(raw.key);
    if let Some(set) = AddressSet::named(set) {
        let ip = key.address(family)?;
        let is_meant = !set.is_of_pairs() || key.address(family)? == ip;
        return is_meant.then_some(Element::Address(set, ip));
    }
    let address = key.frontend(family)?;
    if let Some(set) = PortSet::named(set) {
        return Some(Element::Port(set, address));
    }
    let mut value = Fields(raw.value?);
    if let Some(map) = OnePacketLeads::named(set) {
        return Some(Element::OnePacket(map, address, value.address(family)?));
    }
    if set == "one-packet-ports" {
        return Some(Element::OnePacketPort(address, value.port()?));
    }
    let map = Leads::named(set)?;
    Some(Element::Lead(map, address, value.address(family)?, value.port()?))
}

/// Reads a span of sources.
fn allowed(family: Family, raw: &RawElement<'_>) -> Option<impl Iterator<Item = Element> + use<>> {
    let (mut from, mut to) = (Fields(raw.key), Fields(raw.key_end.unwrap_or(raw.key)));
    let frontend = from.frontend(family)?;
    if to.frontend(family)? != frontend {
        return None;
    }
    let nets = prefixes(from.address(family)?, to.address(family)?);
    Some(nets.into_iter().map(move |net| Element::Allowed(frontend, net)))
}

/// Pairs the beginnings and ends of ranges. A range without an end reaches to the next beginning, or
/// to the last address.
fn ranges(family: Family, mut ends: Vec<(IpAddr, bool)>) -> Vec<IpNet> {
    // If a range ends where the next begins, the end sorts first.
    ends.sort_unstable();
    let mut ranges = Vec::new();
    let mut open = None;
    for (ip, begins) in ends {
        if let (Some(first), Some(last)) = (open.take(), at_distance(ip, -1)) {
            ranges.extend(prefixes(first, last));
        }
        open = begins.then_some(ip);
    }
    if let Some(first) = open {
        let whole_family = IpNet::new_assert(family.unspecified(), 0);
        ranges.extend(prefixes(first, whole_family.broadcast()));
    }
    ranges
}
