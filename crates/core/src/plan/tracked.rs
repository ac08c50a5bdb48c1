//! Objects that several Services may need, with their desired and actual values.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// The desired and the actual value of one object. A set element has no value but its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot<V> {
    /// Above one while Services share the object. At most the number of Services and endpoints.
    needs: u32,
    desired: Option<V>,
    actual: Option<V>,
}

impl<V: Copy + Eq> Slot<V> {
    const EMPTY: Self = Self { needs: 0, desired: None, actual: None };

    pub(super) fn acquire(&mut self, value: V) {
        self.needs += 1;
        self.desired = Some(value);
    }

    pub(super) fn release(&mut self) {
        self.needs = self.needs.saturating_sub(1);
        self.desired = self.desired.filter(|_| self.needs > 0);
    }

    pub(super) fn set_actual(&mut self, actual: Option<V>) {
        self.actual = actual;
    }

    /// Records that the kernel holds what is desired.
    pub(super) fn settle(&mut self) {
        self.actual = self.desired;
    }

    pub(super) fn needs(&self) -> u32 {
        self.needs
    }

    /// Returns the operation that settles the object, unless it is settled.
    pub(super) fn step<O>(
        &self,
        add: impl FnOnce(V) -> O,
        delete: impl FnOnce(V) -> O,
    ) -> Option<O> {
        match (self.desired, self.actual) {
            (desired, actual) if desired == actual => None,
            (Some(desired), _) => Some(add(desired)),
            (None, actual) => actual.map(delete),
        }
    }
}

/// The objects of one kind that are needed or in the kernel; others take no memory.
#[derive(Debug)]
pub(super) struct Tracked<K, V>(FxHashMap<K, Slot<V>>);

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<K: Copy + Eq + Hash, V: Copy + Eq> Tracked<K, V> {
    /// Changes an object and returns its new state.
    pub(super) fn change(&mut self, key: K, change: impl FnOnce(&mut Slot<V>)) -> Slot<V> {
        let mut slot = Slot::EMPTY;
        match self.0.entry(key) {
            Entry::Occupied(mut entry) => {
                change(entry.get_mut());
                slot = *entry.get();
                if slot == Slot::EMPTY {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                change(&mut slot);
                if slot != Slot::EMPTY {
                    entry.insert(slot);
                }
            }
        }
        slot
    }

    pub(super) fn get(&self, key: &K) -> Slot<V> {
        self.0.get(key).copied().unwrap_or(Slot::EMPTY)
    }

    /// Records that the kernel holds none of the objects.
    pub(super) fn clear_actual(&mut self) {
        self.0.retain(|_, slot| {
            slot.actual = None;
            slot.needs > 0
        });
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = K> {
        self.0.iter().filter(|(_, slot)| slot.desired != slot.actual).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::AddressSet;

    /// A large cluster has millions of set elements.
    #[test]
    fn an_element_takes_little_memory() {
        assert_eq!(size_of::<Slot<()>>(), 8);
        assert_eq!(size_of::<((AddressSet, IpAddr), Slot<()>)>(), 28);
    }
}
