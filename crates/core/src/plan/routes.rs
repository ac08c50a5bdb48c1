//! The routes that are held beside those that are wanted.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use super::RouteOperation;
use super::counted::change_slot;
use crate::model::Route;

/// The source address of a route, if it has one.
type RouteSource = Option<IpAddr>;

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct RouteSlot {
    /// More than one while Services share an address.
    needs: u32,
    wanted: Option<RouteSource>,
    held: Option<RouteSource>,
}

/// RouteTable that are needed or held, by their prefix.
#[derive(Debug, Default)]
pub(super) struct RouteTable(FxHashMap<IpNet, RouteSlot>);

impl RouteTable {
    /// Counts a need.
    pub(super) fn need(&mut self, route: &Route) {
        change_slot(&mut self.0, route.prefix, |slot| {
            slot.needs += 1;
            slot.wanted = Some(route.source);
        });
    }

    /// Counts a need less. Returns whether none is left.
    pub(super) fn need_no_more(&mut self, prefix: IpNet) -> bool {
        let slot = change_slot(&mut self.0, prefix, |slot| {
            slot.needs = slot.needs.saturating_sub(1);
            slot.wanted = slot.wanted.filter(|_| slot.needs > 0);
        });
        slot.needs == 0
    }

    /// The kernel holds exactly these.
    pub(super) fn hold_only(&mut self, routes: impl IntoIterator<Item = Route>) {
        self.0.retain(|_, slot| {
            slot.held = None;
            slot.needs > 0
        });
        routes.into_iter().for_each(|route| self.hold(&route));
    }

    /// The kernel holds it now.
    pub(super) fn hold(&mut self, route: &Route) {
        change_slot(&mut self.0, route.prefix, |slot| slot.held = Some(route.source));
    }

    /// The kernel holds no route of that prefix any more.
    pub(super) fn hold_no_more(&mut self, prefix: IpNet) {
        change_slot(&mut self.0, prefix, |slot| slot.held = None);
    }

    /// Whether somebody needs one of that prefix.
    pub(super) fn is_needed(&self, prefix: &IpNet) -> bool {
        self.0.get(prefix).is_some_and(|slot| slot.needs > 0)
    }

    /// Whether what is wanted is what is held.
    pub(super) fn is_settled(&self, prefix: &IpNet) -> bool {
        self.0.get(prefix).is_none_or(RouteSlot::is_settled)
    }

    /// The prefixes of those that are not.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = IpNet> {
        self.0.iter().filter(|(_, slot)| !slot.is_settled()).map(|(prefix, _)| *prefix)
    }

    /// What settles one.
    pub(super) fn step(&self, prefix: IpNet) -> Option<RouteOperation> {
        let slot = self.0.get(&prefix)?;
        let route = |source| Route { prefix, source };
        let add = slot.wanted.map(|source| RouteOperation::Add(route(source)));
        add.or_else(|| slot.held.map(|source| RouteOperation::Delete(route(source))))
    }
}

impl RouteSlot {
    fn is_settled(&self) -> bool {
        self.wanted == self.held
    }
}
