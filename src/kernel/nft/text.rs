//! Our tables as `nft` text: as `nft -s list table` prints them, and as `nft -f` reads them.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use crate::model::{Element, Family, NAME};

use super::element::{Content, entries};
use super::ruleset::Ruleset;
use super::set::{Datatype, Set, SetName};
use super::table::{Base, Chain, ChainKind, Hook, Table, TableFamily};

/// Our tables with these elements as `nft` text, which `nft -f` loads. It is what
/// `nft -s list table inet kube-ipvs` and `nft -s list table arp kube-ipvs` print, with the
/// elements of each set in the order of their keys.
#[must_use]
pub fn render(elements: &[Element]) -> String {
    let mut contents: Contents = BTreeMap::new();
    for element in elements {
        for entry in entries(element) {
            let lines = contents.entry((entry.table, entry.set)).or_default();
            lines.insert(sort_key(&entry.content), Value(*element).to_string());
        }
    }
    let tables = Ruleset::current().tables.iter();
    tables.map(|table| TableText { table, contents: &contents }.to_string()).collect()
}

/// What each set holds: texts by their keys.
type Contents = BTreeMap<(TableFamily, SetName), BTreeMap<Vec<u8>, String>>;

fn sort_key(content: &Content) -> Vec<u8> {
    match content {
        Content::Key(key, _) | Content::Range(key, _) | Content::Span(key, _) => key.to_vec(),
    }
}

/// An element as `nft` prints it: a range of one address without its prefix length.
struct Value(Element);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Element::ServiceRange(net)
            | Element::Reachable(net)
            | Element::Pods(net)
            | Element::Insiders(net) => Range(net).fmt(f),
            Element::Allowed(address, net) => {
                let (ip, protocol, port) = (address.ip, address.protocol, address.port);
                write!(f, "{ip} . {protocol} . {port} . {}", Range(net))
            }
            element => element.fmt(f),
        }
    }
}

struct Range(IpNet);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let net = self.0.trunc();
        if net.prefix_len() == net.max_prefix_len() { net.addr().fmt(f) } else { net.fmt(f) }
    }
}

struct TableText<'a> {
    table: &'a Table,
    contents: &'a Contents,
}

impl fmt::Display for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {NAME} {{", self.table.family)?;
        for (index, set) in self.table.sets.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_set(f, set, self.contents.get(&(self.table.family, set.name)))?;
        }
        for chain in &self.table.chains {
            writeln!(f)?;
            write_chain(f, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(
    f: &mut fmt::Formatter<'_>,
    set: &Set,
    elements: Option<&BTreeMap<Vec<u8>, String>>,
) -> fmt::Result {
    writeln!(f, "\t{} {} {{", set.keyword(), set.name)?;
    match &set.value {
        Some(value) => writeln!(f, "\t\ttype {} : {value}", set.key)?,
        None => writeln!(f, "\t\ttype {}", set.key)?,
    }
    if set.interval {
        writeln!(f, "\t\tflags interval")?;
    }
    if let Some(elements) = elements {
        // `nft` puts two IPv4 addresses into a line, of anything else one.
        let columns = if set.key.0 == [Datatype::Address(Family::V4)] { 2 } else { 1 };
        write!(f, "\t\telements = {{ ")?;
        for (index, element) in elements.values().enumerate() {
            if index > 0 {
                let separator = if index % columns == 0 { ",\n\t\t\t     " } else { ", " };
                f.write_str(separator)?;
            }
            f.write_str(element)?;
        }
        writeln!(f, " }}")?;
    }
    writeln!(f, "\t}}")
}

fn write_chain(f: &mut fmt::Formatter<'_>, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(base) = &chain.base {
        writeln!(f, "\t\t{base}")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {} hook {} priority ", self.kind.name(), self.hook)?;
        match (self.hook, self.kind, self.priority) {
            // What is within ten of a name is printed as a distance from it.
            (Hook::Prerouting, ChainKind::Nat, -110) => f.write_str("dstnat - 10")?,
            (Hook::Postrouting, ChainKind::Nat, 100) => f.write_str("srcnat")?,
            (_, ChainKind::Filter, 0) => f.write_str("filter")?,
            (.., priority) => priority.fmt(f)?,
        }
        f.write_str("; policy accept;")
    }
}
