//! The virtual servers that are held beside those that are wanted.

use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::ServerOperation;
use super::drains::{Drains, Leave};
use crate::model::{Backend, BackendChange, Backends, Pool, Shared, VirtualAddress};

#[derive(Clone, Default, Debug)]
struct PoolSlot {
    /// More than one while a front end changes hands from one Service to another.
    needs: u32,
    wanted: Option<Shared<Pool>>,
    held: Option<Shared<Pool>>,
    /// Something is held, and not known what: nothing is done until it can be read.
    unknown: bool,
    /// Somebody else has the address: what is held goes at once.
    yields: bool,
}

/// What must change from one version of a pool to the next. Mostly the kernel holds the one when a
/// plan is made for the other, and they need not be compared again.
#[derive(Debug)]
struct Exchange {
    old: Shared<Pool>,
    new: Shared<Pool>,
    changes: BackendChanges,
}

/// Differences between two versions of a pool: mostly one.
pub(super) type BackendChanges = SmallVec<[BackendChange; 1]>;

/// The virtual servers that are held beside those that are wanted.
#[derive(Debug, Default)]
pub(super) struct PoolTable {
    slots: FxHashMap<VirtualAddress, PoolSlot>,
    /// Where to look at the next plan; some may be named several times.
    touched: Vec<(VirtualAddress, Option<Exchange>)>,
    /// Real servers that are held and not wanted any more.
    pub(super) drains: Drains,
}

impl PoolTable {
    /// Wants a pool, which another DesiredService needs.
    pub(super) fn want(&mut self, pool: &Shared<Pool>) {
        let address = pool.server.address;
        let slot = self.slots.entry(address).or_default();
        slot.needs += 1;
        slot.wanted = Some(Shared::clone(pool));
        slot.yields = false;
        self.touch(address);
    }

    /// Says that somebody else has an address: nothing of ours is to stay there for its connections.
    pub(super) fn give_up(&mut self, address: VirtualAddress) {
        self.slots.entry(address).or_default().yields = true;
        self.touch(address);
    }

    /// Makes room for so many pools to be exchanged.
    pub(super) fn reserve(&mut self, pools: usize) {
        self.touched.reserve(pools);
    }

    /// Wants another version of a pool, which has changed by so much.
    pub(super) fn exchange(
        &mut self,
        old: &Shared<Pool>,
        new: &Shared<Pool>,
        changes: BackendChanges,
    ) {
        let address = new.server.address;
        self.slots.entry(address).or_default().wanted = Some(Shared::clone(new));
        let (old, new) = (Shared::clone(old), Shared::clone(new));
        self.touched.push((address, Some(Exchange { old, new, changes })));
    }

    /// Says that a DesiredService needs a pool no more.
    pub(super) fn want_no_more(&mut self, address: VirtualAddress) {
        let slot = self.slots.entry(address).or_default();
        slot.needs = slot.needs.saturating_sub(1);
        if slot.needs == 0 {
            slot.wanted = None;
            self.touch(address);
        }
    }

    /// Looks at an address again at the next plan.
    pub(super) fn touch(&mut self, address: VirtualAddress) {
        self.touched.push((address, None));
    }

    /// Looks at every address again that is not settled.
    pub(super) fn touch_all(&mut self) {
        let unsettled = self.slots.iter().filter(|(_, slot)| !slot.is_settled());
        self.touched.extend(unsettled.map(|(address, _)| (*address, None)));
    }

    /// Whether any DesiredService needs it.
    pub(super) fn is_wanted(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.wanted.is_some())
    }

    /// Whether it is held just as it is wanted, and was before.
    pub(super) fn is_settled(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(PoolSlot::is_settled)
    }

    /// Whether it is wanted or held.
    pub(super) fn is_known(&self, address: &VirtualAddress) -> bool {
        self.slots.contains_key(address)
    }

    /// Where it is known what is held.
    pub(super) fn held(&self) -> impl Iterator<Item = &VirtualAddress> {
        let held = self.slots.iter().filter(|(_, slot)| slot.held.is_some());
        held.map(|(address, _)| address)
    }

    /// Whether it is known there.
    pub(super) fn is_held(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.held.is_some())
    }

    /// Whether something is held there, known or not, and no DesiredService needs it.
    pub(super) fn is_unwanted(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(PoolSlot::is_unwanted)
    }

    /// Where that is so.
    pub(super) fn unwanted(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.slots.iter().filter(|(_, slot)| slot.is_unwanted()).map(|(address, _)| address)
    }

    /// Takes in that nothing is held, but perhaps at these addresses.
    pub(super) fn hold_nothing_but_at(&mut self, unread: &BTreeMap<VirtualAddress, String>) {
        let read = self.slots.iter_mut().filter(|(address, _)| !unread.contains_key(address));
        read.for_each(|(_, slot)| (slot.held, slot.unknown) = (None, false));
    }

    /// Takes in that something is held at an address that cannot be read. If more was known of it,
    /// that is still taken for true, so that its changes go on being written.
    pub(super) fn hold_unread(&mut self, address: VirtualAddress) {
        let slot = self.slots.entry(address).or_default();
        slot.unknown = slot.held.is_none();
    }

    /// Takes in what is held at an address.
    pub(super) fn hold(&mut self, address: VirtualAddress, held: Option<Pool>) {
        let slot = self.slots.entry(address).or_default();
        (slot.held, slot.unknown) = (held.map(Shared::from), false);
    }

    /// How many addresses a plan would look at.
    pub(super) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// The operations that the touched addresses need. With `leave_unneeded`, what nobody needs
    /// stays, and stays touched.
    pub(super) fn plan(
        &mut self,
        leave_unneeded: bool,
        now: Instant,
        mut step: impl FnMut(ServerOperation),
    ) {
        let mut touched = mem::take(&mut self.touched);
        touched.extend(self.drains.take_ended(now).into_iter().map(|address| (address, None)));
        touched.sort_unstable_by_key(|(address, _)| *address);
        touched.dedup_by_key(|(address, _)| *address);
        for (address, exchange) in touched {
            if leave_unneeded && !self.is_wanted(&address) {
                self.touch(address);
            } else {
                self.steps(address, exchange, now, &mut step);
            }
        }
    }

    /// The operations that an address needs that is not settled; forgets it if it is neither needed
    /// nor held.
    fn steps(
        &mut self,
        address: VirtualAddress,
        exchange: Option<Exchange>,
        now: Instant,
        mut step: impl FnMut(ServerOperation),
    ) {
        let Some(slot) = self.slots.get_mut(&address).filter(|slot| !slot.is_settled()) else {
            return;
        };
        if slot.unknown {
            return;
        }
        let unwanted;
        let wanted = match (&slot.wanted, &slot.held) {
            (Some(wanted), _) => &**wanted,
            (None, Some(held)) => {
                unwanted = Pool { server: held.server, backends: Backends::default() };
                &unwanted
            }
            (None, None) => {
                self.drains.forget(&address);
                self.slots.remove(&address);
                return;
            }
        };
        let mut is_equal = true;
        let mut step = |operation| {
            is_equal = false;
            step(operation);
        };
        let mut removed = Vec::new();
        let none = Backends::default();
        let held = slot.held.as_ref().map_or(&none, |held| &held.backends);
        if !wanted.backends.is_empty() {
            server_step(slot.held.as_deref(), wanted).into_iter().for_each(&mut step);
        }
        let take = |change| match change {
            BackendChange::Added(new) => step(ServerOperation::AddReal(address, new)),
            // The kernel does not know which real servers are local.
            BackendChange::Changed { old, new } if old.weight != new.weight => {
                step(ServerOperation::SetReal(address, new));
            }
            BackendChange::Changed { .. } => {}
            BackendChange::Removed(old) => removed.push(old),
        };
        match exchange.filter(|exchange| exchange.leads(slot)) {
            Some(exchange) => exchange.changes.into_iter().for_each(take),
            None => wanted.backends.changes_from(held, take),
        }
        let leaves = self.drains.leave(address, &removed, slot.yields, now);
        if wanted.backends.is_empty() {
            if leaves.iter().all(|leave| *leave == Leave::Now) {
                if slot.held.is_some() {
                    step(ServerOperation::Delete(address));
                }
                return;
            }
            server_step(slot.held.as_deref(), wanted).into_iter().for_each(&mut step);
        }
        for (old, leave) in removed.into_iter().zip(leaves) {
            match leave {
                Leave::Now => step(ServerOperation::DeleteReal(address, old)),
                Leave::Later if !old.is_draining() => {
                    step(ServerOperation::SetReal(address, old.drained()));
                }
                Leave::Later => {}
            }
        }
        if is_equal {
            // Equal, but perhaps not the same chunks: share them.
            slot.confirm(self.drains.of(&address));
        }
    }

    /// Notes that the operations for an address have taken place, of which this is the last one.
    pub(super) fn settle(&mut self, last: &ServerOperation) {
        let address = last.address();
        let Some(slot) = self.slots.get_mut(&address) else { return };
        if let (None, ServerOperation::Delete(_)) = (&slot.wanted, last) {
            self.slots.remove(&address);
        } else {
            slot.confirm(self.drains.of(&address));
        }
    }
}

impl Exchange {
    /// Whether it leads from what is held to what is wanted.
    fn leads(&self, slot: &PoolSlot) -> bool {
        let is = |pool: &Option<Shared<Pool>>, one| {
            pool.as_ref().is_some_and(|pool| Shared::is_same(pool, one))
        };
        is(&slot.held, &self.old) && is(&slot.wanted, &self.new)
    }
}

impl PoolSlot {
    /// Whether something is held, known or not, that no DesiredService needs.
    fn is_unwanted(&self) -> bool {
        self.wanted.is_none() && (self.held.is_some() || self.unknown)
    }

    /// Whether it is held just as it is wanted, and was before.
    fn is_settled(&self) -> bool {
        let both = self.wanted.as_ref().zip(self.held.as_ref());
        both.is_some_and(|(wanted, held)| Shared::is_same(wanted, held))
    }

    /// Notes that the pool is held as it is wanted, beside what is leaving it.
    fn confirm(&mut self, leaving: Option<Shared<[Backend]>>) {
        let held = match (&self.wanted, &self.held, leaving) {
            (Some(wanted), _, None) => Some(Shared::clone(wanted)),
            (Some(wanted), _, Some(leaving)) => Some(Shared::from(Pool {
                server: wanted.server,
                backends: wanted.backends.with(leaving),
            })),
            (None, Some(held), Some(leaving)) => Some(Shared::from(Pool {
                server: held.server,
                backends: Backends::from_chunks([leaving]),
            })),
            (None, ..) => None,
        };
        self.held = held.filter(|held| !held.backends.is_empty());
    }
}

/// The operation that makes the virtual server as it is wanted, if any does.
fn server_step(held: Option<&Pool>, wanted: &Pool) -> Option<ServerOperation> {
    match held {
        None => Some(ServerOperation::Add(wanted.server)),
        Some(held) => (held.server != wanted.server).then_some(ServerOperation::Set(wanted.server)),
    }
}
