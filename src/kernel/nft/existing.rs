//! Comparison of a table in the kernel with its definition.

use super::list::{ListedChain, ListedFlowtable, ListedSet};
use super::set::Set;
use super::table::{Chain, Table};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Existing {
    pub(super) chains: Vec<ListedChain>,
    /// The sets and maps, also anonymous ones.
    pub(super) sets: Vec<ListedSet>,
    pub(super) flowtables: Vec<ListedFlowtable>,
    /// The name of each rule's chain.
    pub(super) rules: Vec<String>,
}

impl Existing {
    /// Returns whether the table matches its definition. Of the rules only the number per chain is
    /// compared: a table with other rules has another fingerprint, which is the name of a chain.
    pub(super) fn is(&self, table: &Table) -> bool {
        let has_chain = |chain: &Chain| {
            self.chains.iter().any(|existing| existing.is(chain) && !existing.drops)
                && self.rules.iter().filter(|of| **of == chain.name).count() == chain.rules.len()
        };
        let flowtables = self.flowtables.iter().map(|it| it.name.as_str());
        self.chains.len() == table.chains.len()
            && self.sets.len() == table.sets.len()
            && flowtables.eq(table.flowtables.iter().copied())
            && table.chains.iter().all(has_chain)
            && table.sets.iter().all(|set| self.has_set(set))
    }

    /// Returns whether the set exists with the same flags and types.
    pub(super) fn has_set(&self, set: &Set) -> bool {
        self.sets.iter().any(|existing| existing.is(set))
    }
}

impl ListedChain {
    pub(super) fn is_in(&self, table: &Table) -> bool {
        table.chains.iter().any(|chain| self.is(chain))
    }

    fn is(&self, chain: &Chain) -> bool {
        self.name == chain.name && self.base == chain.base
    }
}

impl ListedSet {
    pub(super) fn is_in(&self, table: &Table) -> bool {
        table.sets.iter().any(|set| self.is(set))
    }

    fn is(&self, set: &Set) -> bool {
        let (value_type, value_len) =
            set.value.as_ref().map_or((0, 0), |value| (value.id(), value.len()));
        self.flags == set.flags()
            && (self.key_type, self.key_len) == (set.key.id(), set.key.len())
            && (self.value_type, self.value_len) == (value_type, value_len)
            && self.name == set.name
    }
}
