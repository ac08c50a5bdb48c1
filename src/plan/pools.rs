//! The virtual servers that are held beside those that are wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::ServerOperation;
use super::drains::{Drains, Leave};
use crate::model::{Backend, BackendChange, Pool, VirtualAddress};

#[derive(Clone, Default, Debug)]
struct Slot {
    /// More than one while a front end changes hands from one Service to another.
    needs: u32,
    wanted: Option<Arc<Pool>>,
    held: Option<Arc<Pool>>,
    /// Something is held, and not known what: nothing is done until it can be read.
    unknown: bool,
}

/// The virtual servers that are held beside those that are wanted.
#[derive(Debug, Default)]
pub(super) struct Pools {
    slots: FxHashMap<VirtualAddress, Slot>,
    /// Real servers that are held and not wanted any more.
    pub(super) drains: Drains,
}

impl Pools {
    /// Wants a pool as it is now; `is_new` if another Program needs it.
    pub(super) fn want(&mut self, pool: &Arc<Pool>, is_new: bool) {
        let slot = self.slots.entry(pool.server.address).or_default();
        slot.needs += u32::from(is_new);
        slot.wanted = Some(Arc::clone(pool));
    }

    /// Says that a Program needs a pool no more. Returns whether none does.
    pub(super) fn want_no_more(&mut self, address: VirtualAddress) -> bool {
        let slot = self.slots.entry(address).or_default();
        slot.needs = slot.needs.saturating_sub(1);
        if slot.needs == 0 {
            slot.wanted = None;
        }
        slot.needs == 0
    }

    /// Whether any Program needs it.
    pub(super) fn is_wanted(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.wanted.is_some())
    }

    /// Whether it is held just as it is wanted, and was before.
    pub(super) fn is_settled(&self, address: &VirtualAddress) -> bool {
        let slot = self.slots.get(address);
        slot.and_then(|slot| slot.wanted.as_ref().zip(slot.held.as_ref()))
            .is_some_and(|(wanted, held)| Arc::ptr_eq(wanted, held))
    }

    /// Whether it is wanted or held.
    pub(super) fn is_known(&self, address: &VirtualAddress) -> bool {
        self.slots.contains_key(address)
    }

    /// All that are wanted or held.
    pub(super) fn addresses(&self) -> impl Iterator<Item = VirtualAddress> + '_ {
        self.slots.keys().copied()
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
        (slot.held, slot.unknown) = (held.map(Arc::new), false);
    }

    /// The operations that an address needs; forgets it if it is neither needed nor held.
    pub(super) fn steps(
        &mut self,
        address: VirtualAddress,
        now: Instant,
        mut step: impl FnMut(ServerOperation),
    ) {
        let Some(slot) = self.slots.get(&address).filter(|slot| !slot.unknown) else { return };
        let Some(wanted) = &slot.wanted else {
            match &slot.held {
                None => {
                    self.drains.forget(&address);
                    self.slots.remove(&address);
                }
                Some(held) if self.drains.ends(address, held.backends.len(), now) => {
                    step(ServerOperation::Delete(address));
                }
                Some(held) => {
                    let serving = held.backends.iter().filter(|backend| !backend.is_draining());
                    serving.for_each(|it| step(ServerOperation::SetReal(address, it.drained())));
                }
            }
            return;
        };
        let none = Default::default();
        let held = slot.held.as_ref().map_or(&none, |held| &held.backends);
        let changes = wanted.backends.changes_from(held);
        let removed: Vec<_> = changes.iter().filter_map(BackendChange::removed).collect();
        let leaves = self.drains.leave(address, &removed, now);
        if wanted.backends.is_empty() && leaves.iter().all(|leave| *leave == Leave::Now) {
            if slot.held.is_some() {
                step(ServerOperation::Delete(address));
            }
            return;
        }
        let mut is_equal = true;
        let mut step = |operation| {
            is_equal = false;
            step(operation);
        };
        match &slot.held {
            None => step(ServerOperation::Add(wanted.server)),
            Some(held) if held.server != wanted.server => {
                step(ServerOperation::Set(wanted.server));
            }
            Some(_) => {}
        }
        for change in changes {
            match change {
                BackendChange::Added(new) => step(ServerOperation::AddReal(address, new)),
                // The kernel does not know which real servers are local.
                BackendChange::Changed { old, new } if old.weight != new.weight => {
                    step(ServerOperation::SetReal(address, new));
                }
                BackendChange::Changed { .. } | BackendChange::Removed(_) => {}
            }
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
            self.confirm(address);
        }
    }

    /// Notes that the operations for an address have taken place, of which this is the last one.
    pub(super) fn settle(&mut self, last: &ServerOperation) {
        let address = last.address();
        let Some(slot) = self.slots.get_mut(&address) else { return };
        match (&slot.wanted, last) {
            (Some(_), _) => self.confirm(address),
            (None, ServerOperation::Delete(_)) => {
                self.slots.remove(&address);
            }
            // It waits for its turn to go.
            (None, _) => {
                slot.held = slot.held.take().map(|held| {
                    let backends = held.backends.iter().map(Backend::drained).collect();
                    Arc::new(Pool { server: held.server, backends })
                });
            }
        }
    }

    /// Notes that a pool is held as it is wanted, beside what is leaving it.
    fn confirm(&mut self, address: VirtualAddress) {
        let Some(slot) = self.slots.get_mut(&address) else { return };
        let Some(wanted) = &slot.wanted else { return };
        let held = match self.drains.of(&address) {
            None => Arc::clone(wanted),
            Some(leaving) => {
                Arc::new(Pool { server: wanted.server, backends: wanted.backends.with(leaving) })
            }
        };
        slot.held = Some(held).filter(|held| !held.backends.is_empty());
    }
}
