//! Reads the content of the tables.

use kube_ipvs_core::model::{Element, NAME};
use kube_ipvs_core::plan::Observed;
use netlink_ipvs::{Attributes, KernelError};
use rustc_hash::FxHashMap;

use super::Nft;
use super::constants::{TABLE, element as nfta_element};
use super::element::{ElementReader, entries};
use super::list::{self, ListedChain, ListedFlowtable, ListedRule, ListedSet};
use super::request::DumpKind;
use super::table::TableFamily;
use super::update::Existing;

impl Nft {
    /// Reads the tables of this and earlier versions. The elements are in arbitrary order, without
    /// those of sets that an update would replace.
    pub fn observe(&mut self) -> Result<Observed, KernelError> {
        let earlier = self.earlier()?;
        let mut observed = Observed { tables: true, earlier, ..Observed::default() };
        let mut entries_of: FxHashMap<Element, usize> = FxHashMap::default();
        for table in self.tables {
            let existing = self.existing(table.family)?;
            observed.tables &= existing.is(table);
            let links = existing.flowtables.iter().flat_map(|flowtable| &flowtable.links);
            for link in links {
                *entries_of.entry(Element::OffloadLink(*link)).or_default() += 1;
            }
            for set in table.sets.iter().filter(|set| existing.has_set(set)) {
                let of = (table.family, set.name);
                for element in self.elements(of, of)? {
                    *entries_of.entry(element).or_default() += 1;
                }
            }
        }
        // An element without all of its entries counts as absent, so that it is added again.
        let complete = entries_of.into_iter().filter(|(it, count)| entries(it).count() == *count);
        observed.elements.extend(complete.map(|(element, _)| element));
        Ok(observed)
    }

    pub(super) fn existing(&mut self, family: TableFamily) -> Result<Existing, KernelError> {
        let socket = &mut self.socket;
        Ok(Existing {
            chains: list::ours(socket, DumpKind::Chains, family, ListedChain::decode)?,
            sets: list::ours(socket, DumpKind::Sets, family, ListedSet::decode)?,
            flowtables: list::ours(socket, DumpKind::Flowtables, family, ListedFlowtable::decode)?,
            rules: list::ours(socket, DumpKind::Rules, family, |payload| {
                ListedRule::decode(payload).map(|rule| rule.chain.to_owned())
            })?,
        })
    }

    /// Reads the elements of a set as elements of another table's set.
    pub(super) fn elements(
        &mut self,
        (table, set): (TableFamily, &str),
        (family, meaning): (TableFamily, &str),
    ) -> Result<Vec<Element>, KernelError> {
        let of = |message: &mut Attributes<'_>| {
            message.text(TABLE, NAME);
            message.text(nfta_element::LIST_SET, set);
        };
        let take = |reader: &mut ElementReader, payload: &[u8]| {
            list::elements(payload).for_each(|raw| reader.read(family, meaning, &raw));
        };
        let reader = list::read(&mut self.socket, DumpKind::Elements, table, of, take)?;
        Ok(reader.finish(family, meaning))
    }
}
