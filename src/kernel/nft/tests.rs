//! Properties of the whole: the golden text, and that what is written can be read back.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kube_ipvs_core::model::{
    AddressSet, Carry, Element, Family, InterfaceSet, Interfaces, Leads, OnePacketLeads, PortSet,
    Protocol, RangeSet, Settings, VirtualAddress,
};
use netlink_ipvs::{Batch, messages};
use proptest::prelude::*;

use super::element::{Content, ElementReader, RawElement, SetEntry, entries};
use super::list::{self, ListedChain, ListedFlowtable, ListedRule, ListedSet};
use super::render;
use super::request::{SetChange, TransactionStep, write};
use super::ruleset::{self, TEXT, table};
use super::set::Layout;
use super::table::{Chain, Table, TableFamily};
use super::update::{Existing, update};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn frontend(text: &str) -> VirtualAddress {
    text.parse().unwrap()
}

/// One of each kind and family at least.
fn samples() -> Vec<Element> {
    let (lb4, lb6) = (frontend("192.0.2.1:80"), frontend("[2001:db8::1]:80"));
    vec![
        Element::Range(RangeSet::ServiceRanges, net("10.112.0.0/12")),
        Element::Range(RangeSet::ServiceRanges, net("10.96.0.0/12")),
        Element::Range(RangeSet::ServiceRanges, net("fd00:96::/112")),
        Element::Range(RangeSet::Reachable, net("192.168.0.0/16")),
        Element::Range(RangeSet::Reachable, net("255.255.255.0/24")),
        Element::Range(RangeSet::Reachable, net("fc00:96::/112")),
        Element::Range(RangeSet::Reachable, net("ffff::/16")),
        Element::Range(RangeSet::Pods, net("0.0.0.0/0")),
        Element::Range(RangeSet::Pods, net("::/0")),
        Element::Range(RangeSet::Insiders, net("10.244.1.0/25")),
        Element::Range(RangeSet::Insiders, net("10.244.1.128/25")),
        Element::Range(RangeSet::Insiders, net("10.244.7.7/32")),
        Element::Range(RangeSet::Insiders, net("fd00:244:1::/64")),
        Element::Interfaces(InterfaceSet::Pods, Interfaces::Prefixed("cali".parse().unwrap())),
        Element::Interfaces(
            InterfaceSet::Insiders,
            Interfaces::Named("fifteen-letters".parse().unwrap()),
        ),
        Element::Address(AddressSet::Pools, ip("10.96.0.1")),
        Element::Address(AddressSet::Pools, ip("250.96.0.1")),
        Element::Address(AddressSet::Pools, ip("fd00:96::a")),
        Element::Address(AddressSet::Images, ip("250.96.0.1")),
        Element::Address(AddressSet::Images, ip("fc00:96::a")),
        Element::Address(AddressSet::ClusterIps, ip("10.96.0.1")),
        Element::Address(AddressSet::ClusterIps, ip("10.96.0.11")),
        Element::Address(AddressSet::ClusterIps, ip("fd00:96::1")),
        Element::Address(AddressSet::SeveralPorts, ip("10.96.0.10")),
        Element::Address(AddressSet::SeveralPorts, ip("fd00:96::a")),
        Element::Address(AddressSet::FrontendIps, ip("192.0.2.1")),
        Element::Address(AddressSet::FrontendIps, ip("2001:db8::1")),
        Element::Address(AddressSet::NodePortIps, ip("192.0.2.9")),
        Element::Address(AddressSet::NodePortIps, ip("2001:db8::9")),
        Element::Lead(Leads::Everybody, frontend("0.0.0.0:30053/udp"), ip("10.96.0.1"), 53),
        Element::Lead(Leads::Everybody, lb4, ip("10.96.0.1"), 8080),
        Element::Lead(Leads::Everybody, lb6, ip("fd00:96::a"), 8080),
        Element::Lead(Leads::Insiders, lb4, ip("10.96.0.1"), 8080),
        Element::Lead(Leads::Insiders, lb6, ip("fd00:96::a"), 8080),
        Element::Lead(Leads::Outsiders, lb4, ip("250.96.0.1"), 8080),
        Element::Lead(Leads::Outsiders, lb6, ip("fc00:96::a"), 8080),
        Element::Port(PortSet::Refused, frontend("192.0.2.9:10/tcp")),
        Element::Port(PortSet::Refused, frontend("[2001:db8::9]:10/tcp")),
        Element::Port(PortSet::Dropped, frontend("192.0.2.9:9/sctp")),
        Element::Port(PortSet::Dropped, frontend("[::]:9/sctp")),
        Element::Port(PortSet::Restricted, lb4),
        Element::Port(PortSet::Restricted, lb6),
        Element::Allowed(lb4, net("198.51.100.0/24")),
        Element::Allowed(lb4, net("203.0.113.7/32")),
        Element::Allowed(lb6, net("2001:db8:1::/48")),
        Element::Port(PortSet::Masqueraded, lb4),
        Element::Port(PortSet::Masqueraded, lb6),
        Element::Port(PortSet::MasqueradedNode, frontend("192.0.2.9:9/sctp")),
        Element::Port(PortSet::MasqueradedNode, frontend("[2001:db8::9]:9/sctp")),
        Element::Address(AddressSet::Hairpin, ip("10.244.1.7")),
        Element::Address(AddressSet::Hairpin, ip("fd00:244:1::7")),
        Element::Port(PortSet::LocalSockets, frontend("10.96.0.10:53/udp")),
        Element::Port(PortSet::LocalSockets, frontend("[fd00:96::a]:53/tcp")),
        Element::Port(PortSet::OnePacket, frontend("0.0.0.0:30053/udp")),
        Element::OnePacketPort(frontend("0.0.0.0:30053/udp"), 53),
        Element::OnePacket(
            OnePacketLeads::Insiders,
            frontend("0.0.0.0:30053/udp"),
            ip("10.96.0.1"),
        ),
        Element::OnePacket(
            OnePacketLeads::Outsiders,
            frontend("[fd00::53]:53/udp"),
            ip("fc00:96::a"),
        ),
        Element::Port(PortSet::Datagrams, frontend("10.96.0.10:53/udp")),
        Element::Port(PortSet::Datagrams, frontend("[fd00:96::a]:53/udp")),
        Element::Port(PortSet::Former, frontend("203.0.113.9:80/tcp")),
        Element::Port(PortSet::Former, frontend("[2001:db8::9]:80/sctp")),
        Element::OffloadLink("cali1".parse().unwrap()),
    ]
}

fn tables() -> impl Iterator<Item = &'static Table> {
    [plain(), complete()].into_iter().flat_map(|settings| ruleset::tables(&settings))
}

fn plain() -> Settings {
    Settings::for_node("n1")
}

/// The configuration with which no line is left out.
fn complete() -> Settings {
    Settings { carry: Carry::Offload(Vec::new()), one_packet_everywhere: true, ..plain() }
}

/// Text that is compared with a real kernel's tables shows the rest.
#[test]
fn text_of_the_elements() {
    let text = render(&samples(), &complete());
    let is_filled =
        |block: &&str| ["elements = ", "devices = "].iter().any(|it| block.contains(it));
    let sets = text.split("\n\n").filter(is_filled);
    insta::assert_snapshot!(sets.collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn every_line_is_understood() {
    for family in TableFamily::OURS {
        for conditions in [[false, false], [false, true], [true, false], [true, true]] {
            let table = table(TEXT, family, conditions);
            table.unwrap_or_else(|mistake| panic!("{family:?}: {mistake}"));
        }
    }
}

#[test]
fn every_rule_leads_to_a_chain() {
    for table in tables() {
        for line in &table.lines {
            if let [.., "goto" | "jump", to] = line.split(' ').collect::<Vec<_>>().as_slice() {
                assert!(table.chains.iter().any(|chain| chain.name == *to), "{line}");
            }
        }
    }
}

/// The mistake in table `ip` with this rule after a good one.
fn mistake_in(rule: &str) -> Option<String> {
    let text = format!(
        "# First.\ntable $ip kube-ipvs {{\n\tset pools {{\n\t\ttype $address\n\t}}\n\n\
         \tchain input {{\n\t\t$ip daddr @pools drop\n\t\t{rule}\n\t}}\n}}\n"
    );
    table(text.leak(), TableFamily::Ip, [false; 2]).err()
}

#[test]
fn statements_outside_the_language_are_named() {
    assert_eq!(mistake_in("tcp dport 1-2 accept"), None);
    for rule in [
        "tcp dport 80 accept",
        "accept drop",
        "ip daddr @images drop",
        "ip6 daddr @pools drop",
        "$ip daddr . $ip daddr @pools drop",
        "dnat $ip to $ip daddr map @pools",
        "dnat to th dport",
        "dnat to $ip daddr . th dport",
        "reject with icmpv6 addr-unreachable",
        "ct state new",
        "$unknown daddr @pools drop",
        "drop # said behind a rule",
    ] {
        let mistake = format!("line 9: {rule:?} has an unknown form");
        assert_eq!(mistake_in(rule), Some(mistake));
    }
    let outside = "line 1: \"tabel ip kube-ipvs {\" has an unknown form".to_owned();
    assert_eq!(table("tabel ip kube-ipvs {\n}\n", TableFamily::Ip, [false; 2]), Err(outside));
}

#[test]
fn every_element_has_its_set() {
    for element in samples() {
        for entry in entries(&element) {
            let mut tables = ruleset::tables(&complete()).iter();
            let table = tables.find(|table| table.family == entry.table).unwrap();
            if let Content::Link(_) = entry.content {
                assert!(table.flowtables.contains(&entry.set), "{element}");
                continue;
            }
            let set = table.sets.iter().find(|set| set.name == entry.set).unwrap();
            let (key, value) = match entry.content {
                Content::Key(key, value) => (key, value),
                Content::Range(key, _) | Content::Span(key, _) => (key, None),
                Content::Link(_) => unreachable!("it is of a flowtable"),
            };
            assert_eq!(key.len() as u32, set.key.len(), "{element}");
            assert_eq!(value.map(|value| value.len() as u32), set.value.as_ref().map(Layout::len));
            assert_eq!(matches!(entry.content, Content::Key(..)), !set.interval, "{element}");
        }
    }
}

#[test]
fn elements_go_to_the_tables_of_their_families() {
    use TableFamily::{Arp, Ip, Ip6};
    let tables = |element| entries(&element).map(|entry| entry.table).collect::<Vec<_>>();
    assert_eq!(tables(Element::Address(AddressSet::Pools, ip("10.96.0.1"))), [Ip, Arp]);
    assert_eq!(tables(Element::Address(AddressSet::Pools, ip("fd00::1"))), [Ip6]);
    assert_eq!(tables(Element::Address(AddressSet::ClusterIps, ip("10.96.0.1"))), [Ip]);
    assert_eq!(tables(Element::Range(RangeSet::Pods, net("10.0.0.0/8"))), [Ip]);
    let cali = Interfaces::Prefixed("cali".parse().unwrap());
    assert_eq!(tables(Element::Interfaces(InterfaceSet::Pods, cali)), [Ip, Ip6]);
}

/// The payload of a change's message.
fn body(table: TableFamily, change: SetChange<'_>) -> Vec<u8> {
    let mut batch = Batch::default();
    write(&mut batch, &[TransactionStep { operation: 0, table, change }]);
    let (_, payload) = messages(batch.bytes()).nth(1).unwrap();
    payload.to_vec()
}

/// What an empty kernel would hold after these changes.
fn executed(table: TableFamily, changes: Vec<SetChange<'_>>) -> Existing {
    let mut existing = Existing::default();
    for change in changes {
        let body = body(table, change.clone());
        match change {
            SetChange::NewTable | SetChange::DeleteRules => {}
            SetChange::NewChain(_) => existing.chains.extend(ListedChain::decode(&body)),
            SetChange::NewSet(..) => existing.sets.extend(ListedSet::decode(&body)),
            SetChange::NewFlowtable(_) => {
                existing.flowtables.extend(ListedFlowtable::decode(&body))
            }
            SetChange::NewRule(..) => {
                existing.rules.extend(ListedRule::decode(&body).map(|rule| rule.chain.to_owned()))
            }
            change => panic!("unexpected {change:?}"),
        }
    }
    existing
}

#[test]
fn a_created_table_is_recognised() {
    for table in tables() {
        let mut existing = executed(table.family, update(table, &Existing::default()));
        assert!(existing.is(table));
        existing.rules.pop();
        assert!(!existing.is(table), "a rule is missing");
        assert!(!Existing::default().is(table));
    }
}

#[test]
fn a_flowtable_comes_and_goes_with_the_rules_that_use_it() {
    let [plain, offloading] =
        [plain(), complete()].map(|settings| ruleset::tables(&settings).first().unwrap());
    let created =
        |table: &'static Table| executed(table.family, update(table, &Existing::default()));
    assert!(update(offloading, &created(plain)).contains(&SetChange::NewFlowtable("carried")));
    let changes = update(plain, &created(offloading));
    let at = |change: SetChange<'_>| changes.iter().position(|other| *other == change).unwrap();
    assert!(at(SetChange::DeleteRules) < at(SetChange::DeleteFlowtable("carried".to_owned())));
}

#[test]
fn links_are_read_as_written() {
    let element = Element::OffloadLink("cali1".parse().unwrap());
    let read = ListedFlowtable::decode(&body_of(entries(&element).next().unwrap()));
    let links = read.unwrap().links.into_iter().map(Element::OffloadLink);
    assert_eq!(links.collect::<Vec<_>>(), [element]);
}

#[test]
fn update_leaves_sets_alone_and_deletes_what_is_not_ours() {
    let table = ruleset::tables(&plain()).first().unwrap();
    let mut existing = executed(table.family, update(table, &Existing::default()));
    let is_of_sets = |change: &SetChange<'_>| {
        matches!(
            change,
            SetChange::NewSet(..) | SetChange::DeleteSet(_) | SetChange::DeleteChain(_)
        )
    };
    let changes = |existing: &Existing| -> Vec<SetChange<'static>> {
        update(table, existing).into_iter().filter(is_of_sets).collect()
    };
    assert_eq!(changes(&existing), []);

    // Of the right name, but not of the right make.
    let others = ["foreign", "forward"].map(Chain::named);
    let others = executed(table.family, others.iter().map(SetChange::NewChain).collect());
    existing.chains.retain(|chain| chain.name != "forward");
    existing.chains.extend(others.chains);
    existing.sets.retain(|set| set.name != "pods");
    assert!(!existing.is(table));
    let (id, pods) = (1..).zip(&table.sets).find(|(_, set)| set.name == "pods").unwrap();
    let expected = [
        SetChange::DeleteChain("foreign".to_owned()),
        SetChange::DeleteChain("forward".to_owned()),
        SetChange::NewSet(pods, id),
    ];
    assert_eq!(changes(&existing), expected);
}

fn body_of(entry: SetEntry) -> Vec<u8> {
    body(entry.table, SetChange::NewElement(entry))
}

/// Writes elements of one set, and reads them back in another order.
fn written_and_read(elements: &[Element]) -> Vec<Element> {
    let SetEntry { table, set, .. } = entries(elements.first().unwrap()).next().unwrap();
    let mut reader = ElementReader::default();
    for element in elements.iter().rev() {
        let body = body_of(entries(element).next().unwrap());
        list::elements(&body).for_each(|raw| reader.read(table, set, &raw));
    }
    let mut read = reader.finish(table, set);
    read.sort();
    read
}

#[test]
fn elements_are_read_as_written() {
    for element in samples().into_iter().filter(|it| !matches!(it, Element::OffloadLink(_))) {
        assert_eq!(written_and_read(&[element]), [element]);
    }
}

#[test]
fn adjacent_ranges_stay_apart() {
    let ranges = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/32", "255.0.0.0/8"];
    let ranges = ranges.map(|text| Element::Range(RangeSet::Pods, net(text)));
    assert_eq!(written_and_read(&ranges), ranges);
}

#[test]
fn foreign_ranges_are_read_as_prefixes() {
    let (table, set) = (TableFamily::Ip, "pods");
    let mut reader = ElementReader::default();
    for (key, ends_range) in [([10, 0, 0, 0], false), ([10, 0, 3, 0], true)] {
        let raw = RawElement { key: &key, ends_range, ..RawElement::default() };
        reader.read(table, set, &raw);
    }
    let ranges =
        ["10.0.0.0/23", "10.0.2.0/24"].map(|text| Element::Range(RangeSet::Pods, net(text)));
    assert_eq!(reader.finish(table, set), ranges);
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
    ]
}

fn range() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(ip, len)| {
        IpNet::new(ip, len.min(Family::of(ip).host_prefix())).unwrap().trunc()
    })
}

fn virtual_address() -> impl Strategy<Value = VirtualAddress> {
    (address(), any::<u16>(), proptest::sample::select(&Protocol::ALL[..]))
        .prop_map(|(ip, port, protocol)| VirtualAddress { ip, port, protocol })
}

/// A key with an address of the same family.
fn lead() -> impl Strategy<Value = (VirtualAddress, IpAddr, u16)> {
    (virtual_address(), any::<u128>(), any::<u16>()).prop_map(|(address, bits, port)| {
        let ip = match address.family() {
            Family::V4 => Ipv4Addr::from(bits as u32).into(),
            Family::V6 => Ipv6Addr::from(bits).into(),
        };
        (address, ip, port)
    })
}

fn interfaces() -> impl Strategy<Value = Interfaces> {
    ("[a-z0-9.-]{0,14}[a-z]", any::<bool>()).prop_map(|(name, named)| {
        let name = name.parse().unwrap();
        if named { Interfaces::Named(name) } else { Interfaces::Prefixed(name) }
    })
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        interfaces().prop_map(|it| Element::Interfaces(InterfaceSet::Pods, it)),
        interfaces().prop_map(|it| Element::Interfaces(InterfaceSet::Insiders, it)),
        range().prop_map(|it| Element::Range(RangeSet::ServiceRanges, it)),
        range().prop_map(|it| Element::Range(RangeSet::Reachable, it)),
        range().prop_map(|it| Element::Range(RangeSet::Pods, it)),
        range().prop_map(|it| Element::Range(RangeSet::Insiders, it)),
        address().prop_map(|it| Element::Address(AddressSet::Pools, it)),
        address().prop_map(|it| Element::Address(AddressSet::Images, it)),
        address().prop_map(|it| Element::Address(AddressSet::ClusterIps, it)),
        address().prop_map(|it| Element::Address(AddressSet::SeveralPorts, it)),
        address().prop_map(|it| Element::Address(AddressSet::FrontendIps, it)),
        address().prop_map(|it| Element::Address(AddressSet::NodePortIps, it)),
        address().prop_map(|it| Element::Address(AddressSet::Hairpin, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::Refused, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::Dropped, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::Restricted, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::LocalSockets, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::Datagrams, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::Masqueraded, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::MasqueradedNode, it)),
        virtual_address().prop_map(|it| Element::Port(PortSet::OnePacket, it)),
        lead().prop_map(|(at, ip, _)| Element::OnePacket(OnePacketLeads::Insiders, at, ip)),
        lead().prop_map(|(at, ip, _)| Element::OnePacket(OnePacketLeads::Outsiders, at, ip)),
        lead().prop_map(|(at, _, port)| Element::OnePacketPort(at, port)),
        lead().prop_map(|(at, ip, port)| Element::Lead(Leads::Everybody, at, ip, port)),
        lead().prop_map(|(at, ip, port)| Element::Lead(Leads::Insiders, at, ip, port)),
        lead().prop_map(|(at, ip, port)| Element::Lead(Leads::Outsiders, at, ip, port)),
        (lead(), 0..=128_u8).prop_map(|((at, ip, _), len)| {
            let len = len.min(at.family().host_prefix());
            Element::Allowed(at, IpNet::new(ip, len).unwrap().trunc())
        }),
    ]
}

proptest! {
    #[test]
    fn any_element_is_read_as_written(element in element()) {
        prop_assert_eq!(written_and_read(&[element]), [element]);
    }

    #[test]
    fn disjoint_ranges_are_read_as_written(blocks in proptest::collection::btree_set(any::<u8>(), 1..40)) {
        let ranges: Vec<_> = blocks
            .into_iter()
            .map(|block| Element::Range(RangeSet::Insiders, IpNet::new(Ipv4Addr::new(block, 0, 0, 0).into(), 8).unwrap()))
            .collect();
        prop_assert_eq!(written_and_read(&ranges), ranges);
    }

    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn any_damage_can_be_read(
        element in element(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = body_of(entries(&element).next().unwrap());
        *at.get_mut(&mut body) = byte;
        read_everything(&body);
    }
}

fn read_everything(bytes: &[u8]) {
    let _ = (ListedChain::decode(bytes), ListedSet::decode(bytes));
    let _ = (ListedFlowtable::decode(bytes), list::is_ours(bytes));
    let _ = ListedRule::decode(bytes).map(|rule| rule.jumps().count());
    for table in ruleset::tables(&plain()) {
        for set in &table.sets {
            let mut reader = ElementReader::default();
            list::elements(bytes).for_each(|raw| reader.read(table.family, set.name, &raw));
            let _ = reader.finish(table.family, set.name);
        }
    }
}

/// Marks of packets and connections belong to other programs (docs/datapath.md, *Masquerading*).
#[test]
fn no_packet_is_marked() {
    let rules = TEXT.lines().filter_map(|line| line.split('#').next());
    let mut words = rules.flat_map(|line| line.split(|it: char| !it.is_alphanumeric()));
    assert_eq!(words.find(|word| word.ends_with("mark")), None);
}
