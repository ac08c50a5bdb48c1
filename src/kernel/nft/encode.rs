//! Attributes of messages about tables, chains, sets, rules and elements, without the name of the
//! table.

use kube_ipvs_core::model::InterfaceName;
use netlink_ipvs::Attributes;

use super::constants::{
    DATA_VALUE, LIST_ELEMENT, chain as nfta_chain, element as nfta_element,
    flowtable as nfta_flowtable, rule as nfta_rule, set as nfta_set, table as nfta_table, verdict,
};
use super::element::{Content, SetEntry};
use super::expression::Expressions;
use super::key::SetKey;
use super::set::Set;
use super::table::{BaseChain, Chain};

pub(super) fn table(to: &mut Attributes<'_>) {
    // Clears the flag of a dormant table.
    to.u32_be(nfta_table::FLAGS, 0);
}

pub(super) fn chain(to: &mut Attributes<'_>, chain: &Chain) {
    to.text(nfta_chain::NAME, &chain.name);
    chain.base.into_iter().for_each(|base| base_chain(to, base));
}

/// Describes a base chain with policy accept.
pub(super) fn base_chain(to: &mut Attributes<'_>, base: BaseChain) {
    to.nest(nfta_chain::HOOK, |to| {
        to.u32_be(nfta_chain::HOOK_NUMBER, base.hook);
        to.u32_be(nfta_chain::HOOK_PRIORITY, base.priority.cast_unsigned());
    });
    to.u32_be(nfta_chain::POLICY, verdict::ACCEPT);
    to.text(nfta_chain::TYPE, base.kind);
}

/// Describes a new set. `id` distinguishes the new sets of a transaction.
pub(super) fn set(to: &mut Attributes<'_>, set: &Set, id: u32) {
    to.text(nfta_set::NAME, set.name);
    to.u32_be(nfta_set::FLAGS, set.flags());
    to.u32_be(nfta_set::KEY_TYPE, set.key.id());
    to.u32_be(nfta_set::KEY_LEN, set.key.len());
    if let Some(value) = &set.value {
        to.u32_be(nfta_set::DATA_TYPE, value.id());
        to.u32_be(nfta_set::DATA_LEN, value.len());
    }
    to.u32_be(nfta_set::ID, id);
    if set.is_interval_concatenation() {
        to.nest(nfta_set::DESCRIPTION, |to| {
            to.nest(nfta_set::DESCRIPTION_CONCATENATION, |to| {
                for field in &set.key.0 {
                    to.nest(LIST_ELEMENT, |to| to.u32_be(nfta_set::FIELD_LEN, field.len()));
                }
            });
        });
    }
}

/// Describes a new flowtable, or a link to add or remove.
pub(super) fn flowtable(to: &mut Attributes<'_>, name: &str, link: Option<InterfaceName>) {
    to.text(nfta_flowtable::NAME, name);
    to.nest(nfta_flowtable::HOOK, |to| {
        to.u32_be(nfta_flowtable::HOOK_NUMBER, nfta_flowtable::INGRESS);
        to.u32_be(nfta_flowtable::HOOK_PRIORITY, 0);
        if let Some(link) = link {
            to.nest(nfta_flowtable::HOOK_LINKS, |to| {
                to.text(nfta_flowtable::LINK_NAME, link.as_str());
            });
        }
    });
}

pub(super) fn rule(to: &mut Attributes<'_>, chain: &str, rule: &Expressions) {
    to.text(nfta_rule::CHAIN, chain);
    to.nest(nfta_rule::EXPRESSIONS, |to| to.raw(rule.bytes()));
}

pub(super) fn entry(to: &mut Attributes<'_>, entry: &SetEntry) {
    if let Content::Link(link) = entry.content {
        return flowtable(to, entry.set, Some(link));
    }
    to.text(nfta_element::LIST_SET, entry.set);
    to.nest(nfta_element::LIST_ELEMENTS, |to| match &entry.content {
        Content::Key(key, None) => element(to, key, |_| {}),
        Content::Key(key, Some(value)) => {
            element(to, key, |to| data(to, nfta_element::DATA, value));
        }
        // A range without an end in the same message reaches to the last address.
        Content::Range(first, after) => {
            element(to, first, |_| {});
            if let Some(after) = after {
                let flags = nfta_element::FLAG_INTERVAL_END;
                element(to, after, |to| to.u32_be(nfta_element::FLAGS, flags));
            }
        }
        Content::Link(_) => {}
        Content::Span(first, last) => {
            element(to, first, |to| data(to, nfta_element::KEY_END, last));
        }
    });
}

fn element(to: &mut Attributes<'_>, key: &SetKey, rest: impl FnOnce(&mut Attributes<'_>)) {
    to.nest(LIST_ELEMENT, |to| {
        data(to, nfta_element::KEY, key);
        rest(to);
    });
}

/// Writes a value within an attribute.
pub(super) fn data(to: &mut Attributes<'_>, kind: u16, value: &[u8]) {
    to.nest(kind, |to| to.bytes(DATA_VALUE, value));
}
