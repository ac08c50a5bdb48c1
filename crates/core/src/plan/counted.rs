//! Elements that the kernel holds or not, and how many need each.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::model::{AddressSet, Element};

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct ElementSlot {
    /// More than one while Services share an element. No more than there are Services and endpoints.
    needs: u32,
    held: bool,
}

/// Elements that are needed or held. Most by far are addresses: in a map of their own each takes half
/// the memory.
#[derive(Debug, Default)]
pub(super) struct Elements {
    addresses: FxHashMap<(AddressSet, IpAddr), ElementSlot>,
    others: FxHashMap<Element, ElementSlot>,
}

impl Elements {
    /// Counts a need. Returns whether it is the first.
    pub(super) fn need(&mut self, element: Element) -> bool {
        self.change(element, |slot| slot.needs += 1).needs == 1
    }

    /// Counts a need less. Returns whether none is left.
    pub(super) fn need_no_more(&mut self, element: Element) -> bool {
        self.change(element, |slot| slot.needs = slot.needs.saturating_sub(1)).needs == 0
    }

    /// The kernel holds exactly these.
    pub(super) fn hold_only(&mut self, elements: impl IntoIterator<Item = Element>) {
        let let_go = |slot: &mut ElementSlot| {
            slot.held = false;
            slot.needs > 0
        };
        self.addresses.retain(|_, slot| let_go(slot));
        self.others.retain(|_, slot| let_go(slot));
        elements.into_iter().for_each(|element| self.hold(element));
    }

    /// The kernel holds it now.
    pub(super) fn hold(&mut self, element: Element) {
        self.change(element, |slot| slot.held = true);
    }

    /// The kernel holds it no more.
    pub(super) fn hold_no_more(&mut self, element: Element) {
        self.change(element, |slot| slot.held = false);
    }

    /// Whether somebody needs it.
    pub(super) fn is_needed(&self, element: &Element) -> bool {
        self.slot(element).needs > 0
    }

    /// Whether it is held if it is needed, and only then.
    pub(super) fn is_settled(&self, element: &Element) -> bool {
        self.slot(element).is_settled()
    }

    /// Those that are not.
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
        self.held == (self.needs > 0)
    }
}

/// Changes what a map says of a key, where the default takes no room. Returns what it says now.
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
