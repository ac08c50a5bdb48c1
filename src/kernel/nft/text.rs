//! Our tables as `nft` text: as `nft -s list table` prints them, and as `nft -f` reads them.

use std::collections::BTreeMap;

use crate::model::{Element, Family, NAME};

use super::element::{Content, entries};
use super::ruleset::Ruleset;
use super::set::{Datatype, Set};
use super::table::TableFamily;

/// Our tables with these elements as `nft` text, which `nft -f` loads. It is what
/// `nft -s list table` prints of `ip kube-ipvs`, `ip6 kube-ipvs` and `arp kube-ipvs`, with the
/// elements of each set in the order of their keys.
#[must_use]
pub fn render(elements: &[Element]) -> String {
    let mut contents: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for element in elements {
        for entry in entries(element) {
            let key = match entry.content {
                Content::Key(key, _) | Content::Range(key, _) | Content::Span(key, _) => key,
            };
            let elements = contents.entry((entry.table, entry.set)).or_default();
            elements.insert(key.to_vec(), value(element, entry.table));
        }
    }
    let mut text = String::new();
    for table in &Ruleset::current().tables {
        text += &format!("table {} {NAME} {{\n", table.family.name());
        // Sets come first, and elements last in a set.
        let mut sets = table.sets.iter();
        for line in &table.lines {
            if line == "\t}"
                && let Some(set) = sets.next()
                && let Some(elements) = contents.get(&(table.family, set.name))
            {
                text += &list(set, elements.values());
            }
            text += line;
            text += "\n";
        }
        text += "}\n";
    }
    text
}

/// An element as `nft` prints it: a range of one address without its prefix length.
fn value(element: &Element, table: TableFamily) -> String {
    let text = element.to_string();
    let of_one_address = format!("/{}", table.addresses().host_prefix());
    text.strip_suffix(&of_one_address).unwrap_or(&text).to_owned()
}

/// The line, or lines, of a set's elements: two IPv4 addresses in one, of anything else one.
fn list<'a>(set: &Set, elements: impl Iterator<Item = &'a String>) -> String {
    let columns = if set.key.0 == [Datatype::Address(Family::V4)] { 2 } else { 1 };
    let mut text = "\t\telements = { ".to_owned();
    for (index, element) in elements.enumerate() {
        if index > 0 {
            text += if index % columns == 0 { ",\n\t\t\t     " } else { ", " };
        }
        text += element;
    }
    text + " }\n"
}
