//! From elements of the model to entries of the kernel's sets, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use kube_ipvs_core::model::{
    AddressSet, Element, Family, InterfaceName, InterfaceSet, Interfaces, Leads, PortSet, RangeSet,
};

use super::key::{Fields, SetKey};
use super::table::TableFamily;

/// An entry of one set, or of the flowtable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SetEntry {
    pub(super) table: TableFamily,
    pub(super) set: &'static str,
    pub(super) content: Content,
}

/// The content of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// A key, in a map with its value.
    Key(SetKey, Option<SetKey>),
    /// A range: its first address, and the address after its last, unless the last is the highest
    /// address. The kernel holds a range as two elements.
    Range(SetKey, Option<SetKey>),
    /// A link of a flowtable.
    Link(InterfaceName),
    /// A range in the last field of a concatenation, first and last. The kernel holds it as one
    /// element.
    Span(SetKey, SetKey),
}

/// The entries that an element takes: one in the table of its family, or one in each of them, and
/// another in table `arp` for what must not be answered for there.
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
        Element::OffloadLink(name) => Content::Link(*name),
        Element::Allowed(address, net) => {
            let key = SetKey::frontend(address);
            Content::Span(key.address(net.network()), key.address(net.broadcast()))
        }
    }
}

fn range(net: IpNet) -> Content {
    let after = following(net.broadcast()).map(|ip| SetKey::EMPTY.address(ip));
    Content::Range(SetKey::EMPTY.address(net.network()), after)
}

/// The names of interfaces as a range: the kernel compares their sixteen bytes as it compares those
/// of an IPv6 address, so that names which begin alike are what a prefix is.
fn names(interfaces: Interfaces) -> IpNet {
    let (name, len) = match interfaces {
        Interfaces::Named(name) => (name, 128),
        Interfaces::Prefixed(name) => (name, 8 * name.as_str().len() as u8),
    };
    Ipv6Net::new_assert(name.bytes().into(), len).into()
}

/// The interfaces whose names are a range, if the range can stand for interfaces.
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

fn following(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| Ipv4Addr::from(ip).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| Ipv6Addr::from(ip).into()),
    }
}

fn preceding(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_sub(1).map(|ip| Ipv4Addr::from(ip).into()),
        IpAddr::V6(ip) => u128::from(ip).checked_sub(1).map(|ip| Ipv6Addr::from(ip).into()),
    }
}

fn last(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::BROADCAST.into(),
        Family::V6 => Ipv6Addr::from(u128::MAX).into(),
    }
}

/// The prefixes that make up a range. A range of ours is one prefix.
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

/// One element as the kernel sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct RawElement<'a> {
    /// The key, or the first one of a span.
    pub(super) key: &'a [u8],
    /// The last key of a span.
    pub(super) key_end: Option<&'a [u8]>,
    /// The value, in a map.
    pub(super) value: Option<&'a [u8]>,
    /// Whether a range ends right before this key.
    pub(super) ends_range: bool,
}

/// Assembles the elements of one set from the kernel's messages, in any order. Elements that no
/// version of this program writes are left out.
#[derive(Debug, Default)]
pub(super) struct ElementReader {
    elements: Vec<Element>,
    /// Where ranges end (false) and begin (true).
    ends: Vec<(IpAddr, bool)>,
}

impl ElementReader {
    /// Takes an element of a table's set.
    pub(super) fn read(&mut self, table: TableFamily, set: &str, raw: &RawElement<'_>) {
        let family = key_family(table, set);
        match set {
            set if Ranges::named(set).is_some() => {
                let ip = Fields(raw.key).address(family);
                self.ends.extend(ip.map(|ip| (ip, !raw.ends_range)));
            }
            "allowed" => self.elements.extend(allowed(family, raw).into_iter().flatten()),
            set => self.elements.extend(element(set, family, raw)),
        }
    }

    /// All elements of the set, each range as the prefixes that make it up.
    pub(super) fn finish(self, table: TableFamily, set: &str) -> Vec<Element> {
        let Some(kind) = Ranges::named(set) else { return self.elements };
        let ranges = ranges(key_family(table, set), self.ends).into_iter();
        ranges.filter_map(|net| kind.element(net)).collect()
    }
}

/// The kind of a set that holds plain ranges.
#[derive(Clone, Copy)]
enum Ranges {
    Addresses(RangeSet),
    Interfaces(InterfaceSet),
}

impl Ranges {
    fn named(set: &str) -> Option<Self> {
        let addresses = RangeSet::named(set).map(Self::Addresses);
        addresses.or_else(|| InterfaceSet::named(set).map(Self::Interfaces))
    }

    fn element(self, net: IpNet) -> Option<Element> {
        match self {
            Self::Addresses(set) => Some(Element::Range(set, net)),
            Self::Interfaces(set) => interfaces(net).map(|it| Element::Interfaces(set, it)),
        }
    }
}

/// The family of a set's addresses, or the family as which its keys are read.
fn key_family(table: TableFamily, set: &str) -> Family {
    InterfaceSet::named(set).map_or(table.addresses(), |_| Family::V6)
}

/// An element that is a key, with its value in a map.
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
    let (map, mut value) = (Leads::named(set)?, Fields(raw.value?));
    Some(Element::Lead(map, address, value.address(family)?, value.port()?))
}

/// A span of sources.
fn allowed(family: Family, raw: &RawElement<'_>) -> Option<impl Iterator<Item = Element> + use<>> {
    let (mut from, mut to) = (Fields(raw.key), Fields(raw.key_end.unwrap_or(raw.key)));
    let frontend = from.frontend(family)?;
    if to.frontend(family)? != frontend {
        return None;
    }
    let nets = prefixes(from.address(family)?, to.address(family)?);
    Some(nets.into_iter().map(move |net| Element::Allowed(frontend, net)))
}

/// Pairs the ends of ranges up. A range without an end runs up to the next one's beginning, or to
/// the last address of all.
fn ranges(family: Family, mut ends: Vec<(IpAddr, bool)>) -> Vec<IpNet> {
    // If one range ends where the next begins, the end comes first.
    ends.sort_unstable();
    let mut ranges = Vec::new();
    let mut open = None;
    for (ip, begins) in ends {
        if let (Some(first), Some(last)) = (open.take(), preceding(ip)) {
            ranges.extend(prefixes(first, last));
        }
        open = begins.then_some(ip);
    }
    if let Some(first) = open {
        ranges.extend(prefixes(first, last(family)));
    }
    ranges
}
