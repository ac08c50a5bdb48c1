//! The desired and the actual virtual servers.

use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use super::ServerOperation;
use super::drains::Drains;
use super::ejections::{Ejection, Ejections, Sample, SampleTargets};
use super::weights::Weights;
use crate::model::{Backend, BackendChange, Backends, Pool, Shared, VirtualAddress, VirtualServer};

#[derive(Clone, Default, Debug)]
struct PoolSlot {
    /// Above one while a front end moves from one Service to another.
    needs: u32,
    desired: Option<Shared<Pool>>,
    actual: Option<Shared<Pool>>,
    /// The kernel holds a virtual server that cannot be read: no operation until it can.
    unknown: bool,
    /// The desired pool with its present weights, while some differ from the desired ones.
    weighted: Option<Shared<Pool>>,
    /// Another program has the address: the virtual server is removed at once.
    yields: bool,
}

/// The desired and the actual virtual servers.
#[derive(Debug, Default)]
pub(super) struct PoolTable {
    slots: FxHashMap<VirtualAddress, PoolSlot>,
    /// The addresses for the next plan, possibly with duplicates.
    touched: Vec<VirtualAddress>,
    /// Actual real servers that are no longer desired.
    pub(super) drains: Drains,
    pub(super) weights: Weights,
    pub(super) ejections: Ejections,
}

impl PoolTable {
    pub(super) fn acquire(&mut self, pool: &Shared<Pool>) {
        let address = pool.server.address;
        let slot = self.slots.entry(address).or_default();
        slot.needs += 1;
        slot.desired = Some(Shared::clone(pool));
        slot.yields = false;
        self.ejections.follow(pool);
        self.touch(address);
    }

    /// Records that another program has the address, so that no real server drains there.
    pub(super) fn give_up(&mut self, address: VirtualAddress) {
        self.slots.entry(address).or_default().yields = true;
        self.touch(address);
    }

    /// Replaces the desired pool at an address; its uses stay.
    pub(super) fn exchange(&mut self, new: &Shared<Pool>) {
        let address = new.server.address;
        self.slots.entry(address).or_default().desired = Some(Shared::clone(new));
        self.ejections.follow(new);
        self.touch(address);
    }

    pub(super) fn release(&mut self, address: VirtualAddress) {
        let slot = self.slots.entry(address).or_default();
        slot.needs = slot.needs.saturating_sub(1);
        if slot.needs == 0 {
            slot.desired = None;
            self.ejections.leave(&address);
            self.touch(address);
        }
    }

    /// Includes an address in the next plan.
    pub(super) fn touch(&mut self, address: VirtualAddress) {
        self.touched.push(address);
    }

    pub(super) fn touch_all(&mut self) {
        let unsettled = self.slots.iter().filter(|(_, slot)| !slot.is_settled());
        self.touched.extend(unsettled.map(|(address, _)| *address));
    }

    pub(super) fn is_desired(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.desired.is_some())
    }

    /// Returns the desired pool at an address with its present weights.
    pub(super) fn present(&self, address: &VirtualAddress) -> Option<&Pool> {
        self.slots.get(address)?.goal().map(|pool| &**pool)
    }

    pub(super) fn is_known(&self, address: &VirtualAddress) -> bool {
        self.slots.contains_key(address)
    }

    pub(super) fn actual(&self) -> impl Iterator<Item = &VirtualAddress> {
        let actual = self.slots.iter().filter(|(_, slot)| slot.actual.is_some());
        actual.map(|(address, _)| address)
    }

    pub(super) fn is_actual(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(|slot| slot.actual.is_some())
    }

    /// Returns whether the kernel holds a virtual server that no Service needs, even if it could
    /// not be read.
    pub(super) fn is_obsolete(&self, address: &VirtualAddress) -> bool {
        self.slots.get(address).is_some_and(PoolSlot::is_obsolete)
    }

    pub(super) fn obsolete(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.slots.iter().filter(|(_, slot)| slot.is_obsolete()).map(|(address, _)| address)
    }

    /// Records that the kernel holds no virtual servers, except perhaps at these addresses.
    pub(super) fn clear_actual_except(&mut self, unread: &BTreeMap<VirtualAddress, String>) {
        let read = self.slots.iter_mut().filter(|(address, _)| !unread.contains_key(address));
        read.for_each(|(_, slot)| (slot.actual, slot.unknown) = (None, false));
    }

    /// Records that the virtual server at an address cannot be read. The previous knowledge is
    /// kept, so that its changes are still written.
    pub(super) fn set_unread(&mut self, address: VirtualAddress) {
        let slot = self.slots.entry(address).or_default();
        slot.unknown = slot.actual.is_none();
    }

    pub(super) fn set_actual(&mut self, address: VirtualAddress, actual: Option<Pool>) {
        let slot = self.slots.entry(address).or_default();
        (slot.actual, slot.unknown) = (actual.map(Shared::from), false);
    }

    /// Returns the counters to read if a sample is due.
    pub(super) fn poll_sample(&mut self, now: Instant) -> Option<SampleTargets> {
        self.ejections.poll(now, self.slots.len())
    }

    /// Takes a sample of the kernel's counters; `None` if the kernel does not count. Returns what
    /// changes.
    pub(super) fn sample(&mut self, sample: Option<Sample>, now: Instant) -> Vec<Ejection> {
        let Some(sample) = sample else {
            self.ejections.restart();
            let ejected: Vec<_> = self.weights.ejected().map(|(at, it)| (*at, *it)).collect();
            for (address, backend) in ejected {
                self.weights.restore(&address, &backend);
                self.touch(address);
            }
            return Vec::new();
        };
        self.ejections.watch(&sample.servers, now);
        let mut all = Vec::new();
        for (address, counters) in &sample.real_servers {
            let slot = self.slots.get(address);
            let Some(desired) = slot.and_then(|slot| slot.desired.as_ref()) else { continue };
            let Self { weights, ejections, touched, .. } = self;
            let is_ejected = |backend: &_| weights.is_ejected(address, backend);
            let changes = ejections.judge(desired, counters, is_ejected, now);
            for change in &changes {
                if change.is_out() {
                    weights.eject(*address, &change.backend);
                } else {
                    weights.restore(address, &change.backend.socket());
                }
                touched.push(*address);
            }
            all.extend(changes);
        }
        all
    }

    /// Plans the operations for the touched addresses. With `keep_unneeded`, virtual servers
    /// without a use stay, and stay touched.
    pub(super) fn plan(
        &mut self,
        keep_unneeded: bool,
        now: Instant,
        mut step: impl FnMut(ServerOperation),
    ) {
        let mut touched = mem::take(&mut self.touched);
        touched.extend(self.drains.take_ended(now));
        touched.extend(self.weights.take_due(now));
        touched.sort_unstable();
        touched.dedup();
        for address in touched {
            if keep_unneeded && !self.is_desired(&address) {
                self.touch(address);
            } else {
                self.steps(address, now, &mut step);
            }
        }
    }

    /// Plans the operations for an unsettled address. Drops the state of an address that is neither
    /// desired nor actual.
    fn steps(
        &mut self,
        address: VirtualAddress,
        now: Instant,
        mut step: impl FnMut(ServerOperation),
    ) {
        let Some(slot) = self.slots.get_mut(&address).filter(|slot| !slot.unknown) else { return };
        slot.weighted = self.weights.adjust(slot.desired.as_ref(), slot.actual.as_deref(), now);
        if slot.is_settled() {
            return;
        }
        let Some(target) = slot.target() else {
            self.drains.forget(&address);
            self.slots.remove(&address);
            return;
        };
        let limit = target.server.max_connections;
        let has_other_limit =
            slot.actual.as_ref().is_some_and(|it| it.server.max_connections != limit);
        let mut is_equal = true;
        let mut step = |operation| {
            is_equal = false;
            step(operation);
        };
        let none = Backends::default();
        let actual = slot.actual.as_ref().map_or(&none, |actual| &actual.backends);
        if !target.backends.is_empty() {
            server_step(slot.actual.as_deref(), &target).into_iter().for_each(&mut step);
        }
        let mut removed = Vec::new();
        if has_other_limit {
            let actual: FxHashSet<_> = actual.iter().map(Backend::socket).collect();
            let stay = target.backends.iter().filter(|it| actual.contains(&it.socket()));
            stay.for_each(|it| step(ServerOperation::SetReal(address, *it, limit)));
        }
        target.backends.changes_from(actual, |change| match change {
            BackendChange::Added(new) => step(ServerOperation::AddReal(address, new, limit)),
            // The kernel does not know which real servers are local.
            BackendChange::Changed { old, new } if old.weight != new.weight && !has_other_limit => {
                step(ServerOperation::SetReal(address, new, limit));
            }
            BackendChange::Changed { .. } => {}
            BackendChange::Removed(old) => removed.push(old),
        });
        let drain = target.control.as_ref().and_then(|control| control.drain);
        let (ended, draining) = self.drains.update(address, removed, drain, slot.yields, now);
        if target.backends.is_empty() {
            if draining.is_empty() {
                if slot.actual.is_some() {
                    step(ServerOperation::Delete(address));
                }
                return;
            }
            server_step(slot.actual.as_deref(), &target).into_iter().for_each(&mut step);
        }
        for old in draining.iter().filter(|old| !old.is_draining() || has_other_limit) {
            step(ServerOperation::SetReal(address, old.drained(), limit));
        }
        for old in ended {
            step(ServerOperation::DeleteReal(address, old));
        }
        if is_equal {
            // Equal, but perhaps not the same chunks: share them.
            slot.confirm(self.drains.of(&address));
        }
    }

    /// Records the success of all operations for an address; `last` is the last one.
    pub(super) fn settle(&mut self, last: &ServerOperation) {
        let address = last.address();
        let Some(slot) = self.slots.get_mut(&address) else { return };
        if let (None, ServerOperation::Delete(_)) = (&slot.desired, last) {
            self.slots.remove(&address);
        } else {
            slot.confirm(self.drains.of(&address));
        }
    }
}

impl PoolSlot {
    /// Returns the pool that the actual one is changed to: without a desired one, it loses its
    /// backends. `None` if there is neither.
    fn target(&self) -> Option<Shared<Pool>> {
        let emptied = |actual: &Shared<Pool>| {
            let Pool { server, control, .. } = &**actual;
            Pool { server: *server, backends: Backends::default(), control: control.clone() }.into()
        };
        self.goal().cloned().or_else(|| self.actual.as_ref().map(emptied))
    }

    /// Returns the desired pool with its present weights.
    fn goal(&self) -> Option<&Shared<Pool>> {
        self.weighted.as_ref().or(self.desired.as_ref())
    }

    fn is_obsolete(&self) -> bool {
        self.desired.is_none() && (self.actual.is_some() || self.unknown)
    }

    fn is_settled(&self) -> bool {
        let both = self.goal().zip(self.actual.as_ref());
        both.is_some_and(|(desired, actual)| Shared::is_same(desired, actual))
    }

    /// Records that the kernel holds the desired pool and the draining real servers.
    fn confirm(&mut self, draining: Option<Shared<[Backend]>>) {
        let actual = match (self.goal(), &self.actual, draining) {
            (Some(desired), _, None) => Some(Shared::clone(desired)),
            (Some(desired), _, Some(draining)) => Some(Shared::from(Pool {
                backends: desired.backends.with(draining),
                ..Pool::clone(desired)
            })),
            (None, Some(actual), Some(draining)) => Some(Shared::from(Pool {
                backends: Backends::from_chunks([draining]),
                ..Pool::clone(actual)
            })),
            (None, ..) => None,
        };
        self.actual = actual.filter(|actual| !actual.backends.is_empty());
    }
}

/// Returns the operation for the virtual server itself, if any.
fn server_step(actual: Option<&Pool>, desired: &Pool) -> Option<ServerOperation> {
    match actual {
        None => Some(ServerOperation::Add(desired.server)),
        Some(actual) => {
            let max_connections = desired.server.max_connections;
            let actual = VirtualServer { max_connections, ..actual.server };
            (actual != desired.server).then_some(ServerOperation::Set(desired.server))
        }
    }
}
