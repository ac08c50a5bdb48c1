//! Requests that change the tables, each for an operation.

use kube_ipvs_core::model::NAME;
use netlink_ipvs::{Attributes, Batch, KernelError, Socket};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::constants::{TABLE, chain as nfta_chain, flowtable as nfta_flowtable, set as nfta_set};
use super::element::SetEntry;
use super::encode;
use super::expression::Expressions;
use super::set::Set;
use super::table::{Chain, TableFamily};
use crate::kernel::family::netfilter_header;

/// `NFNL_SUBSYS_NFTABLES`
pub(super) const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_DELTABLE`
const DELETE_TABLE: u16 = 2;
/// `NFNL_MSG_BATCH_BEGIN`
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`
const END: u16 = 0x11;

/// Without `NLM_F_EXCL`: an object that exists is no error.
pub(super) const CREATE: u16 = NLM_F_CREATE;

/// A request for a list: `NFT_MSG_GET*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DumpKind {
    Chains = 4,
    Rules = 7,
    Sets = 10,
    Elements = 13,
    Flowtables = 23,
    /// The number of the last transaction; not a list.
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
    /// Deletes the table with its content.
    DeleteTable,
    DeleteRules,
    /// Adds a chain without its rules.
    NewChain(&'a Chain),
    DeleteChain(String),
    /// Adds a set. The number distinguishes the new sets of a transaction.
    NewSet(&'a Set, u32),
    DeleteSet(String),
    /// Adds a flowtable without links.
    NewFlowtable(&'static str),
    /// No rule may use the flowtable.
    DeleteFlowtable(String),
    /// Adds a rule at the end of its chain.
    NewRule(&'a Chain, &'a Expressions),
    NewElement(SetEntry),
    DeleteElement(SetEntry),
}

/// A change to one table for an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TransactionStep<'a> {
    pub(super) operation: usize,
    pub(super) table: TableFamily,
    pub(super) change: SetChange<'a>,
}

/// Writes the steps as one transaction.
pub(super) fn write(batch: &mut Batch, steps: &[TransactionStep<'_>]) {
    batch.clear();
    transaction(batch, |batch| steps.iter().for_each(|step| push_step(batch, step)));
}

fn push_step(batch: &mut Batch, step: &TransactionStep<'_>) {
    let mut push = |kind, flags, body: &dyn Fn(&mut Attributes<'_>)| {
        push(batch, (kind, flags), (step.table, NAME), body);
    };
    match &step.change {
        SetChange::NewTable => push(0, CREATE, &encode::table),
        SetChange::DeleteTable => push(DELETE_TABLE, 0, &|_| {}),
        SetChange::NewChain(chain) => push(3, CREATE, &|to| encode::chain(to, chain)),
        SetChange::DeleteChain(name) => push(5, 0, &|to| to.text(nfta_chain::NAME, name)),
        SetChange::NewRule(chain, rule) => {
            push(6, CREATE | NLM_F_APPEND, &|to| encode::rule(to, &chain.name, rule));
        }
        SetChange::DeleteRules => push(8, 0, &|_| {}),
        SetChange::NewSet(set, id) => push(9, CREATE, &|to| encode::set(to, set, *id)),
        SetChange::DeleteSet(name) => push(11, 0, &|to| to.text(nfta_set::NAME, name)),
        SetChange::NewFlowtable(name) => {
            push(22, CREATE, &|to| encode::flowtable(to, name, None));
        }
        SetChange::DeleteFlowtable(name) => push(24, 0, &|to| to.text(nfta_flowtable::NAME, name)),
        // One entry per message, so that an error names it. Several entries would save a third of
        // the bytes, but no measurable time.
        SetChange::NewElement(entry) => {
            let kind = if entry.is_link() { 22 } else { 12 };
            push(kind, CREATE, &|to| encode::entry(to, entry));
        }
        SetChange::DeleteElement(entry) => {
            let kind = if entry.is_link() { 24 } else { 14 };
            push(kind, 0, &|to| encode::entry(to, entry));
        }
    }
}

/// Returns the netlink message type of an `NFT_MSG_*`.
pub(crate) const fn message_type(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// Appends a request (`NFT_MSG_*` and `NLM_F_*`) about a table or an object of it.
pub(crate) fn push(
    batch: &mut Batch,
    (kind, flags): (u16, u16),
    (family, table): (TableFamily, &str),
    body: impl FnOnce(&mut Attributes<'_>),
) {
    batch.push(message_type(kind), flags, |message| {
        netfilter_header(message, family.number(), 0);
        message.text(TABLE, table);
        body(message);
    });
}

/// Appends the deletion of a table with its content.
pub(crate) fn delete_table(batch: &mut Batch, family: TableFamily, name: &str) {
    push(batch, (DELETE_TABLE, 0), (family, name), |_| {});
}

/// Sends requests as one transaction, and returns the first failure.
pub(crate) fn submit(
    socket: &mut Socket,
    what: &'static str,
    fill: impl FnOnce(&mut Batch),
) -> Result<(), KernelError> {
    let mut batch = Batch::default();
    transaction(&mut batch, fill);
    // The request that ends the transaction has no answer.
    let last = batch.len().saturating_sub(2);
    let answers = socket.transact(&mut batch, last)?;
    let is_lost = answers.contains(&None);
    match answers.into_iter().flatten().find_map(Result::err) {
        Some(error) => Err(KernelError::refused(what, error)),
        None if is_lost => Err(KernelError::Lost(what)),
        None => Ok(()),
    }
}

/// Frames requests as one transaction: the kernel executes all of them or none.
fn transaction(batch: &mut Batch, fill: impl FnOnce(&mut Batch)) {
    let boundary = |message: &mut Attributes<'_>| netfilter_header(message, 0, SUBSYSTEM);
    batch.push(BEGIN, 0, boundary);
    fill(batch);
    batch.push(END, 0, boundary);
}
