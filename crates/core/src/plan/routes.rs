//! The desired and the actual routes.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::RouteOperation;
use super::counted::change_slot;
use crate::model::Route;

type RouteSource = Option<IpAddr>;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct RouteSlot {
    /// Above one while Services share an address.
    needs: u32,
    desired: Option<RouteSource>,
    actual: Option<RouteSource>,
}

/// The desired and the actual routes, by prefix.
#[derive(Debug, Default)]
pub(super) struct RouteTable(FxHashMap<IpNet, RouteSlot>);

impl RouteTable {
    pub(super) fn acquire(&mut self, route: &Route) {
        change_slot(&mut self.0, route.prefix, |slot| {
            slot.needs += 1;
            slot.desired = Some(route.source);
        });
    }

    /// Removes a use and returns whether none is left.
    pub(super) fn release(&mut self, prefix: IpNet) -> bool {
        let slot = change_slot(&mut self.0, prefix, |slot| {
            slot.needs = slot.needs.saturating_sub(1);
            slot.desired = slot.desired.filter(|_| slot.needs > 0);
        });
        slot.needs == 0
    }

    pub(super) fn replace_actual(&mut self, routes: impl IntoIterator<Item = Route>) {
        self.0.retain(|_, slot| {
            slot.actual = None;
            slot.needs > 0
        });
        routes.into_iter().for_each(|route| self.set_actual(&route));
    }

    pub(super) fn set_actual(&mut self, route: &Route) {
        change_slot(&mut self.0, route.prefix, |slot| slot.actual = Some(route.source));
    }

    pub(super) fn remove_actual(&mut self, prefix: IpNet) {
        change_slot(&mut self.0, prefix, |slot| slot.actual = None);
    }

    pub(super) fn is_needed(&self, prefix: &IpNet) -> bool {
        self.0.get(prefix).is_some_and(|slot| slot.needs > 0)
    }

    pub(super) fn is_settled(&self, prefix: &IpNet) -> bool {
        self.0.get(prefix).is_none_or(RouteSlot::is_settled)
    }

    pub(super) fn unsettled(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().filter(|(_, slot)| !slot.is_settled()).map(|(prefix, _)| *prefix)
    }

    /// Returns the operation that settles a route.
    pub(super) fn step(&self, prefix: IpNet) -> Option<RouteOperation> {
        let slot = self.0.get(&prefix)?;
        let route = |source| Route { prefix, source };
        let add = slot.desired.map(|source| RouteOperation::Add(route(source)));
        add.or_else(|| slot.actual.map(|source| RouteOperation::Delete(route(source))))
    }
}

impl RouteSlot {
    fn is_settled(&self) -> bool {
        self.desired == self.actual
    }
}
