//! Set elements with their use counts.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::model::{AddressSet, Element};

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct ElementSlot {
    /// Above one while Services share the element. At most the number of Services and endpoints.
    needs: u32,
    present: bool,
}

/// The elements that are needed or in the kernel. Most are addresses: a separate map takes half the
/// memory for each.
#[derive(Debug, Default)]
pub(super) struct Elements {
    addresses: FxHashMap<(AddressSet, IpAddr), ElementSlot>,
    others: FxHashMap<Element, ElementSlot>,
}

impl Elements {
    /// Adds a use and returns whether it is the first.
    pub(super) fn acquire(&mut self, element: Element) -> bool {
        self.change(element, |slot| slot.needs += 1).needs == 1
    }

    /// Removes a use and returns whether none is left.
    pub(super) fn release(&mut self, element: Element) -> bool {
        self.change(element, |slot| slot.needs = slot.needs.saturating_sub(1)).needs == 0
    }

    pub(super) fn set_all_present(&mut self, elements: impl IntoIterator<Item = Element>) {
        let let_go = |slot: &mut ElementSlot| {
            slot.present = false;
            slot.needs > 0
        };
        self.addresses.retain(|_, slot| let_go(slot));
        self.others.retain(|_, slot| let_go(slot));
        elements.into_iter().for_each(|element| self.set_present(element));
    }

    pub(super) fn set_present(&mut self, element: Element) {
        self.change(element, |slot| slot.present = true);
    }

    pub(super) fn set_absent(&mut self, element: Element) {
        self.change(element, |slot| slot.present = false);
    }

    pub(super) fn is_needed(&self, element: &Element) -> bool {
        self.slot(element).needs > 0
    }

    /// Returns whether the kernel agrees with the need for an element.
    pub(super) fn is_settled(&self, element: &Element) -> bool {
        self.slot(element).is_settled()
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = Element> {
        let addresses = self.addresses.iter().filter(|(_, slot)| !slot.is_settled());
        let others = self.others.iter().filter(|(_, slot)| !slot.is_settled());
        let addresses = addresses.map(|((set, ip), _)| Element::Address(*set, *ip));
        addresses.chain(others.map(|(element, _)| *element))
    }

    fn slot(&self, element: &Element) -> ElementSlot {
        let slot = match element {
            Element::Address(set, ip) => self.addresses.get(&(*set, *ip)),
            other => self.others.get(other),
        };
        slot.copied().unwrap_or_default()
    }

    fn change(&mut self, element: Element, change: impl FnOnce(&mut ElementSlot)) -> ElementSlot {
        match element {
            Element::Address(set, ip) => change_slot(&mut self.addresses, (set, ip), change),
            other => change_slot(&mut self.others, other, change),
        }
    }
}

impl ElementSlot {
    fn is_settled(&self) -> bool {
        self.present == (self.needs > 0)
    }
}

/// Changes the value of a key; default values take no memory. Returns the new value.
pub(super) fn change_slot<K: Eq + Hash, S: Copy + Default + PartialEq>(
    map: &mut FxHashMap<K, S>,
    key: K,
    change: impl FnOnce(&mut S),
) -> S {
    let mut slot = S::default();
    match map.entry(key) {
        Entry::Occupied(mut entry) => {
            change(entry.get_mut());
            slot = *entry.get();
            if slot == S::default() {
                entry.remove();
            }
        }
        Entry::Vacant(entry) => {
            change(&mut slot);
            if slot != S::default() {
                entry.insert(slot);
            }
        }
    }
    slot
}
