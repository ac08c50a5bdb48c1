//! What the kernel holds or not, and how many need it.

use std::hash::Hash;

use rustc_hash::FxHashMap;

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    needs: u32,
    held: bool,
}

/// Things of a kind, each of which the kernel holds or not: those that are needed or held.
#[derive(Debug)]
pub(super) struct Counted<T>(FxHashMap<T, Slot>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(FxHashMap::default())
    }
}

impl<T: Copy + Eq + Hash> Counted<T> {
    /// Counts a need. Returns whether it is the first.
    pub(super) fn need(&mut self, thing: T) -> bool {
        let slot = self.0.entry(thing).or_default();
        slot.needs += 1;
        slot.needs == 1
    }

    /// Counts a need less. Returns whether none is left.
    pub(super) fn need_no_more(&mut self, thing: T) -> bool {
        let Some(slot) = self.0.get_mut(&thing) else { return false };
        slot.needs = slot.needs.saturating_sub(1);
        let Slot { needs, held } = *slot;
        if needs == 0 && !held {
            self.0.remove(&thing);
        }
        needs == 0
    }

    /// The kernel holds exactly these.
    pub(super) fn hold_only(&mut self, things: impl IntoIterator<Item = T>) {
        self.0.retain(|_, slot| {
            slot.held = false;
            slot.needs > 0
        });
        things.into_iter().for_each(|thing| self.hold(thing));
    }

    /// The kernel holds it now.
    pub(super) fn hold(&mut self, thing: T) {
        self.0.entry(thing).or_default().held = true;
    }

    /// The kernel holds it no more.
    pub(super) fn hold_no_more(&mut self, thing: T) {
        if let Some(slot) = self.0.get_mut(&thing) {
            slot.held = false;
            if slot.needs == 0 {
                self.0.remove(&thing);
            }
        }
    }

    /// Whether somebody needs it.
    pub(super) fn is_needed(&self, thing: &T) -> bool {
        self.0.get(thing).is_some_and(|slot| slot.needs > 0)
    }

    /// Whether it is held if it is needed, and only then.
    pub(super) fn is_settled(&self, thing: &T) -> bool {
        self.0.get(thing).is_none_or(Slot::is_settled)
    }

    /// Those that are not.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = T> {
        self.0.iter().filter(|(_, slot)| !slot.is_settled()).map(|(thing, _)| *thing)
    }
}

impl Slot {
    fn is_settled(&self) -> bool {
        self.held == (self.needs > 0)
    }
}
