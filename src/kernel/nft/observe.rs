//! What our tables hold, read back.

use kube_ipvs_core::model::Element;
use netlink_ipvs::{Attributes, KernelError, NetlinkError};
use rustc_hash::FxHashMap;
use rustix::io::Errno;

use super::element::{ElementReader, entries};
use super::existing::{self, Existing, ExistingChain, ExistingFlowtable, ExistingSet};
use super::request::{DumpKind, header};
use super::set::Set;
use super::table::TableFamily;
use super::{Nft, encode};

/// What our tables hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NftObserved {
    /// Whether the tables are there with exactly the rules that this version writes.
    pub tables: bool,
    /// The elements of their sets and maps, in no particular order. Sets that creating the tables
    /// would replace count as empty.
    pub elements: Vec<Element>,
    /// As [`Observed`](kube_ipvs_core::plan::Observed) has it.
    pub earlier: Option<Vec<Element>>,
}

impl Nft {
    /// Reads our tables.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe(&mut self) -> Result<NftObserved, KernelError> {
        let earlier = self.earlier()?;
        let mut observed = NftObserved { tables: true, elements: Vec::new(), earlier };
        let mut entries_of: FxHashMap<Element, usize> = FxHashMap::default();
        for table in &self.ruleset.tables {
            let existing = self.existing(table.family)?;
            observed.tables &= existing.is(table);
            let links = existing.flowtables.iter().flat_map(|flowtable| &flowtable.links);
            for link in links {
                *entries_of.entry(Element::OffloadLink(*link)).or_default() += 1;
            }
            for set in table.sets.iter().filter(|set| existing.has_set(set)) {
                for element in self.elements(table.family, set)? {
                    *entries_of.entry(element).or_default() += 1;
                }
            }
        }
        // What lacks one of its entries is not there: adding it again adds what is missing.
        let complete = entries_of.into_iter().filter(|(it, count)| entries(it).count() == *count);
        observed.elements.extend(complete.map(|(element, _)| element));
        Ok(observed)
    }

    /// Reads the chains, sets and rules of one of our tables.
    pub(super) fn existing(&mut self, family: TableFamily) -> Result<Existing, KernelError> {
        let (family, name) = (family.number(), encode::table_name);
        Ok(Existing {
            chains: self.list(DumpKind::Chains, family, name, |chains: &mut Vec<_>, payload| {
                chains.extend(ExistingChain::decode(payload));
            })?,
            sets: self.list(DumpKind::Sets, family, name, |sets: &mut Vec<_>, payload| {
                sets.extend(ExistingSet::decode(payload));
            })?,
            flowtables: self.list(
                DumpKind::Flowtables,
                family,
                name,
                |found: &mut Vec<_>, payload| {
                    found.extend(ExistingFlowtable::decode(payload));
                },
            )?,
            rules: self.list(DumpKind::Rules, family, name, |rules: &mut Vec<_>, payload| {
                rules.extend(existing::chain_of_rule(payload));
            })?,
        })
    }

    fn elements(&mut self, family: TableFamily, set: &Set) -> Result<Vec<Element>, KernelError> {
        let body = |message: &mut Attributes<'_>| encode::elements_of(message, set.name);
        let reader = self.list(
            DumpKind::Elements,
            family.number(),
            body,
            |reader: &mut ElementReader, payload| {
                existing::elements(payload).for_each(|raw| reader.read(family, set.name, &raw));
            },
        )?;
        Ok(reader.finish(family, set.name))
    }

    /// Lists something of a table; of what does not exist, nothing.
    pub(super) fn list<T: Default>(
        &mut self,
        what: DumpKind,
        family: u8,
        body: impl Fn(&mut Attributes<'_>),
        take: impl Fn(&mut T, &[u8]),
    ) -> Result<T, KernelError> {
        let fill = |message: &mut Attributes<'_>| {
            header(message, family, 0);
            body(message);
        };
        let listed = self.socket.dump("nf_tables list", what.kind(), fill, |found, _, payload| {
            // `struct nfgenmsg` comes first.
            take(found, payload.get(4..).unwrap_or_default());
        });
        match listed {
            Err(KernelError::Refused {
                error: NetlinkError { errno: Errno::NOENT, .. }, ..
            }) => Ok(T::default()),
            listed => listed,
        }
    }
}
