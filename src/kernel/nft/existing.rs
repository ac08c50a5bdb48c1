//! What the kernel tells of our tables.

use kube_ipvs_core::model::{InterfaceName, NAME};
use netlink_ipvs::{Attribute, attributes};

use super::constants::{
    DATA_VALUE, chain as nfta_chain, element as nfta_element, flowtable as nfta_flowtable,
    rule as nfta_rule, set as nfta_set, verdict,
};
use super::element::RawElement;
use super::set::Set;
use super::table::{BaseChain, Chain, Table};

/// Chains, sets and rules of one table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Existing {
    /// The chains.
    pub(super) chains: Vec<ExistingChain>,
    /// The sets and maps, anonymous ones included.
    pub(super) sets: Vec<ExistingSet>,
    /// The flowtables.
    pub(super) flowtables: Vec<ExistingFlowtable>,
    /// For each rule the name of its chain.
    pub(super) rules: Vec<String>,
}

impl Existing {
    /// Whether the table is there as it should be, down to the number of each chain's rules.
    /// A table of other rules differs in the chain that is named by their fingerprint.
    pub(super) fn is(&self, table: &Table) -> bool {
        let has_chain = |chain: &Chain| {
            self.chains.iter().any(|existing| existing.is(chain) && !existing.drops)
                && self.rules.iter().filter(|of| **of == chain.name).count() == chain.rules.len()
        };
        self.chains.len() == table.chains.len()
            && self.sets.len() == table.sets.len()
            && self
                .flowtables
                .iter()
                .map(|it| it.name.as_str())
                .eq(table.flowtables.iter().copied())
            && table.chains.iter().all(has_chain)
            && table.sets.iter().all(|set| self.has_set(set))
    }

    /// Whether the set is there and of the right make.
    pub(super) fn has_set(&self, set: &Set) -> bool {
        self.sets.iter().any(|existing| existing.is(set))
    }
}

/// A chain that exists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ExistingChain {
    /// Its name.
    pub(super) name: String,
    /// Its kind, hook number and priority where it is a base chain.
    base: Option<(String, u32, i32)>,
    /// Whether it drops what no rule decides about.
    drops: bool,
}

impl ExistingChain {
    /// Whether the table should have it as it is.
    pub(super) fn is_in(&self, table: &Table) -> bool {
        table.chains.iter().any(|chain| self.is(chain))
    }

    fn is(&self, chain: &Chain) -> bool {
        let base = |base: &BaseChain| (base.kind.to_owned(), base.hook, base.priority);
        self.name == chain.name && self.base == chain.base.as_ref().map(base)
    }

    /// Reads a chain. `None` where it is not of our tables.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut chain = Self::default();
        let (mut hook, mut kind, mut is_ours) = (None, None, false);
        for attribute in attributes(payload) {
            match attribute.kind {
                nfta_chain::TABLE => is_ours = attribute.text() == Some(NAME),
                nfta_chain::NAME => chain.name = text(&attribute),
                nfta_chain::HOOK => hook = Some(attribute.value),
                nfta_chain::POLICY => chain.drops = attribute.u32_be() == Some(verdict::DROP),
                nfta_chain::TYPE => kind = Some(text(&attribute)),
                _ => {}
            }
        }
        if let (Some(hook), Some(kind)) = (hook, kind) {
            let number = |wanted| find(hook, wanted)?.u32_be();
            let (hook, priority) =
                (number(nfta_chain::HOOK_NUMBER)?, number(nfta_chain::HOOK_PRIORITY)?);
            chain.base = Some((kind, hook, priority.cast_signed()));
        }
        is_ours.then_some(chain)
    }
}

/// A set that exists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ExistingSet {
    /// Its name.
    pub(super) name: String,
    flags: u32,
    key_type: u32,
    key_len: u32,
    value_type: u32,
    value_len: u32,
}

impl ExistingSet {
    /// Whether the table should have it as it is.
    pub(super) fn is_in(&self, table: &Table) -> bool {
        table.sets.iter().any(|set| self.is(set))
    }

    /// Whether it belongs to a rule, and goes with it.
    pub(super) fn is_anonymous(&self) -> bool {
        self.flags & nfta_set::FLAG_ANONYMOUS != 0
    }

    fn is(&self, set: &Set) -> bool {
        let (value_type, value_len) =
            set.value.as_ref().map_or((0, 0), |value| (value.id(), value.len()));
        self.flags == set.flags()
            && (self.key_type, self.key_len) == (set.key.id(), set.key.len())
            && (self.value_type, self.value_len) == (value_type, value_len)
            && self.name == set.name
    }

    /// Reads a set. `None` where it is not of our tables.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let mut set = Self::default();
        let mut is_ours = false;
        for attribute in attributes(payload) {
            let number = || attribute.u32_be().unwrap_or_default();
            match attribute.kind {
                nfta_set::TABLE => is_ours = attribute.text() == Some(NAME),
                nfta_set::NAME => set.name = text(&attribute),
                nfta_set::FLAGS => set.flags = number(),
                nfta_set::KEY_TYPE => set.key_type = number(),
                nfta_set::KEY_LEN => set.key_len = number(),
                nfta_set::DATA_TYPE => set.value_type = number(),
                nfta_set::DATA_LEN => set.value_len = number(),
                _ => {}
            }
        }
        is_ours.then_some(set)
    }
}

/// A flowtable that exists.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ExistingFlowtable {
    /// Its name.
    pub(super) name: String,
    /// The links that it carries connections from and to.
    pub(super) links: Vec<InterfaceName>,
}

impl ExistingFlowtable {
    /// Reads a flowtable. `None` where it is not of our tables.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let is_ours = find(payload, nfta_flowtable::TABLE)?.text() == Some(NAME);
        let name = find(payload, nfta_flowtable::NAME).map(|name| text(&name))?;
        let hook = find(payload, nfta_flowtable::HOOK)?;
        let links = find(hook.value, nfta_flowtable::HOOK_LINKS);
        let links = links.iter().flat_map(Attribute::nested);
        let links = links.filter_map(|link| link.text()?.parse().ok()).collect();
        is_ours.then_some(Self { name, links })
    }
}

/// Reads the name of a rule's chain. `None` where it is not of our tables.
pub(super) fn chain_of_rule(payload: &[u8]) -> Option<String> {
    let is_ours = find(payload, nfta_rule::TABLE)?.text() == Some(NAME);
    is_ours.then(|| find(payload, nfta_rule::CHAIN).map(|chain| text(&chain)))?
}

/// Reads elements.
pub(super) fn elements(payload: &[u8]) -> impl Iterator<Item = RawElement<'_>> {
    attributes(payload)
        .filter(|attribute| attribute.kind == nfta_element::LIST_ELEMENTS)
        .flat_map(|list| list.nested())
        .map(|element| raw_element(&element))
}

fn raw_element<'a>(element: &Attribute<'a>) -> RawElement<'a> {
    let mut raw = RawElement::default();
    for attribute in element.nested() {
        let value = || find(attribute.value, DATA_VALUE).map(|value| value.value);
        match attribute.kind {
            nfta_element::KEY => raw.key = value().unwrap_or_default(),
            nfta_element::DATA => raw.value = value(),
            nfta_element::FLAGS => {
                let flags = attribute.u32_be().unwrap_or_default();
                raw.ends_range = flags & nfta_element::FLAG_INTERVAL_END != 0;
            }
            nfta_element::KEY_END => raw.key_end = value(),
            _ => {}
        }
    }
    raw
}

fn find(payload: &[u8], wanted: u16) -> Option<Attribute<'_>> {
    attributes(payload).find(|attribute| attribute.kind == wanted)
}

fn text(attribute: &Attribute<'_>) -> String {
    attribute.text().unwrap_or_default().to_owned()
}
