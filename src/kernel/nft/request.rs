//! Requests to change our tables, each on behalf of an operation.

use netlink_ipvs::{Attributes, Batch};

use super::element::{Content, SetEntry};
use super::encode;
use super::expression::Expressions;
use super::set::Set;
use super::table::{Chain, TableFamily};
use crate::kernel::family::netfilter_header;

/// `NFNL_SUBSYS_NFTABLES`
pub(super) const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`
const END: u16 = 0x11;

/// `NLM_F_CREATE`. Never with `NLM_F_EXCL`: what exists already is fine.
const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
const APPEND: u16 = 0x800;

/// The objects to list: `NFT_MSG_GET*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DumpKind {
    Chains = 4,
    Rules = 7,
    Sets = 10,
    Elements = 13,
    Flowtables = 23,
    /// Not a list: the number of the last transaction.
    Generation = 16,
}

impl DumpKind {
    pub(super) fn kind(self) -> u16 {
        message_type(self as u16)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SetChange<'a> {
    NewTable,
    /// Removes the table with all that is in it.
    DeleteTable,
    DeleteRules,
    /// Adds a chain without its rules.
    NewChain(&'a Chain),
    DeleteChain(String),
    /// Adds a set. The number distinguishes the new sets of a transaction.
    NewSet(&'a Set, u32),
    /// Removes a set with its elements.
    DeleteSet(String),
    /// Adds a flowtable without links.
    NewFlowtable(&'static str),
    /// Removes a flowtable. No rule may use it.
    DeleteFlowtable(String),
    /// Adds a rule at the end of its chain.
    NewRule(&'a Chain, &'a Expressions),
    NewElement(SetEntry),
    DeleteElement(SetEntry),
}

/// A change to one table on behalf of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TransactionStep<'a> {
    pub(super) operation: usize,
    pub(super) table: TableFamily,
    pub(super) change: SetChange<'a>,
}

/// Writes the steps as one transaction: its first request begins it, its last one ends it.
pub(super) fn write(batch: &mut Batch, steps: &[TransactionStep<'_>]) {
    batch.clear();
    transaction(batch, |batch| {
        for step in steps {
            let (kind, flags) = kind(&step.change);
            batch.push(message_type(kind), flags, |message| {
                netfilter_header(message, step.table.number(), 0);
                body(message, &step.change);
            });
        }
    });
}

/// The type of a message: the subsystem's, and `NFT_MSG_*`.
pub(crate) const fn message_type(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// Makes one transaction of requests: the kernel carries out all of them, or none.
pub(crate) fn transaction(batch: &mut Batch, fill: impl FnOnce(&mut Batch)) {
    let boundary = |message: &mut Attributes<'_>| netfilter_header(message, 0, SUBSYSTEM);
    batch.push(BEGIN, 0, boundary);
    fill(batch);
    batch.push(END, 0, boundary);
}

/// `NFT_MSG_*` and flags.
fn kind(change: &SetChange<'_>) -> (u16, u16) {
    match change {
        SetChange::NewTable => (0, CREATE),
        SetChange::DeleteTable => (2, 0),
        SetChange::NewChain(_) => (3, CREATE),
        SetChange::DeleteChain(_) => (5, 0),
        SetChange::NewRule(..) => (6, CREATE | APPEND),
        SetChange::DeleteRules => (8, 0),
        SetChange::NewSet(..) => (9, CREATE),
        SetChange::DeleteSet(_) => (11, 0),
        SetChange::NewFlowtable(_) => (22, CREATE),
        SetChange::DeleteFlowtable(_) => (24, 0),
        SetChange::NewElement(SetEntry { content: Content::Link(_), .. }) => (22, CREATE),
        SetChange::DeleteElement(SetEntry { content: Content::Link(_), .. }) => (24, 0),
        // One entry to a message, so that a refusal names it. Several would save a third of the
        // bytes, and no time that can be measured.
        SetChange::NewElement(_) => (12, CREATE),
        SetChange::DeleteElement(_) => (14, 0),
    }
}

fn body(message: &mut Attributes<'_>, change: &SetChange<'_>) {
    match change {
        SetChange::NewTable => encode::table(message),
        SetChange::DeleteTable | SetChange::DeleteRules => encode::table_name(message),
        SetChange::NewChain(chain) => encode::chain(message, chain),
        SetChange::DeleteChain(name) => encode::chain_name(message, name),
        SetChange::NewSet(set, id) => encode::set(message, set, *id),
        SetChange::DeleteSet(name) => encode::set_name(message, name),
        SetChange::NewFlowtable(name) => encode::flowtable(message, name, None),
        SetChange::DeleteFlowtable(name) => encode::flowtable_name(message, name),
        SetChange::NewRule(chain, rule) => encode::rule(message, chain, rule),
        SetChange::NewElement(entry) | SetChange::DeleteElement(entry) => {
            encode::entry(message, entry)
        }
    }
}
