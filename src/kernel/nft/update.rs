//! Comparison of a table in the kernel with its definition, and the changes that create it or update
//! that of another version.
//!
//! A table is never deleted and created again: in between, connections would escape its rules. A set
//! keeps its elements, and a flowtable its links.

use super::list::{ListedChain, ListedFlowtable, ListedSet};
use super::request::SetChange;
use super::set::Set;
use super::table::{Chain, Table};

/// Returns the changes from the existing table to its definition, for one transaction.
pub(super) fn update<'a>(table: &'a Table, existing: &Existing) -> Vec<SetChange<'a>> {
    let mut changes = vec![SetChange::NewTable];
    // Sets and chains cannot be deleted while rules refer to them.
    changes.push(SetChange::DeleteRules);
    let is_defined = |existing: &ListedSet| table.sets.iter().any(|set| existing.is(set));
    let sets = existing.sets.iter().filter(|set| !is_defined(set) && !set.is_anonymous());
    changes.extend(sets.map(|set| SetChange::DeleteSet(set.name.clone())));
    let flowtables = existing.flowtables.iter().map(|flowtable| &flowtable.name);
    let flowtables = flowtables.filter(|name| !table.flowtables.contains(&name.as_str()));
    changes.extend(flowtables.cloned().map(SetChange::DeleteFlowtable));
    let is_defined = |existing: &ListedChain| table.chains.iter().any(|chain| existing.is(chain));
    let chains = existing.chains.iter().filter(|chain| !is_defined(chain));
    changes.extend(chains.map(|chain| SetChange::DeleteChain(chain.name.clone())));

    let sets = (1..).zip(&table.sets).filter(|(_, set)| !existing.has_set(set));
    changes.extend(sets.map(|(id, set)| SetChange::NewSet(set, id)));
    changes.extend(table.flowtables.iter().map(|name| SetChange::NewFlowtable(name)));
    // Also existing chains: their policy may have changed.
    changes.extend(table.chains.iter().map(SetChange::NewChain));
    for chain in &table.chains {
        changes.extend(chain.rules.iter().map(|rule| SetChange::NewRule(chain, rule)));
    }
    changes
}

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
    fn is(&self, chain: &Chain) -> bool {
        self.name == chain.name && self.base == chain.base
    }
}

impl ListedSet {
    fn is(&self, set: &Set) -> bool {
        let (value_type, value_len) =
            set.value.as_ref().map_or((0, 0), |value| (value.id(), value.len()));
        self.flags == set.flags()
            && (self.key_type, self.key_len) == (set.key.id(), set.key.len())
            && (self.value_type, self.value_len) == (value_type, value_len)
            && self.name == set.name
    }
}
