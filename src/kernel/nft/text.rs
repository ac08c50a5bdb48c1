//! Formats the tables as `nft -s list table` prints and `nft -f` reads them.

use std::collections::BTreeMap;

use kube_ipvs_core::model::{Element, Family, NAME, Settings};

use super::element::{Content, entries};
use super::ruleset;
use super::set::{Datatype, Set};
use super::table::TableFamily;

/// Formats the tables `ip kube-ipvs`, `ip6 kube-ipvs` and `arp kube-ipvs` with these elements as
/// `nft -s list table` prints them. The elements of a set are sorted by key. `nft -f` loads the text.
#[must_use]
pub fn render(elements: &[Element], settings: &Settings) -> String {
    let mut contents: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for element in elements {
        for entry in entries(element) {
            let key = match entry.content {
                Content::Key(key, _) | Content::Range(key, _) | Content::Span(key, _) => {
                    key.to_vec()
                }
                Content::Link(name) => name.bytes().to_vec(),
            };
            let elements = contents.entry((entry.table, entry.set)).or_default();
            elements.insert(key, value(element, entry.table));
        }
    }
    let mut text = String::new();
    for table in ruleset::tables(settings) {
        text += &format!("table {} {NAME} {{\n", table.family.name());
        // Flowtables follow the sets, and elements come last in each.
        let two = [Datatype::Address(Family::V4)];
        let columns = |set: &Set| if set.key.0 == two { 2 } else { 1 };
        let sets = table.sets.iter().map(|set| (set.name, "elements", columns(set)));
        let flowtables = table.flowtables.iter().map(|name| (*name, "devices", usize::MAX));
        let mut holders = sets.chain(flowtables);
        for line in &table.lines {
            if line == "\t}"
                && let Some((name, what, columns)) = holders.next()
                && let Some(elements) = contents.get(&(table.family, name))
            {
                text += &list(what, columns, elements.values());
            }
            text += line;
            text += "\n";
        }
        text += "}\n";
    }
    text
}

/// Formats an element as `nft` does: a range of one address without prefix length.
fn value(element: &Element, table: TableFamily) -> String {
    let text = element.to_string();
    let of_one_address = format!("/{}", table.addresses().host_prefix());
    text.strip_suffix(&of_one_address).unwrap_or(&text).to_owned()
}

/// Formats the elements of a set or the links of a flowtable in lines of several columns.
fn list<'a>(what: &str, columns: usize, elements: impl Iterator<Item = &'a String>) -> String {
    let mut text = format!("\t\t{what} = {{ ");
    for (index, element) in elements.enumerate() {
        if index > 0 {
            text += if index % columns == 0 { ",\n\t\t\t     " } else { ", " };
        }
        text += element;
    }
    text + " }\n"
}
