//! The changes that create the tables, or update those of another version.
//!
//! A table is never deleted and created again: in between, connections would escape its rules. A set
//! keeps its elements, and a flowtable its links.

use super::existing::Existing;
use super::request::SetChange;
use super::table::Table;

/// Returns the changes from the existing table to its definition, for one transaction.
pub(super) fn update<'a>(table: &'a Table, existing: &Existing) -> Vec<SetChange<'a>> {
    let mut changes = vec![SetChange::NewTable];
    // Sets and chains cannot be deleted while rules refer to them.
    changes.push(SetChange::DeleteRules);
    let sets = existing.sets.iter().filter(|set| !set.is_in(table) && !set.is_anonymous());
    changes.extend(sets.map(|set| SetChange::DeleteSet(set.name.clone())));
    let flowtables = existing.flowtables.iter().map(|flowtable| &flowtable.name);
    let flowtables = flowtables.filter(|name| !table.flowtables.contains(&name.as_str()));
    changes.extend(flowtables.cloned().map(SetChange::DeleteFlowtable));
    let chains = existing.chains.iter().filter(|chain| !chain.is_in(table));
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
