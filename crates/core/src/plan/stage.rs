//! The order across tables, which makes every prefix of a plan safe: what protects and
//! masquerades comes before what attracts traffic, and what attracts goes before what serves.

use std::net::IpAddr;

use rustc_hash::FxHashSet;

use super::key::ObjectKey;
use super::{FilterOperation, Operation, RouteOperation, ServerOperation};
use crate::model::{AddressSet, Element, PortSet, RangeSet, VirtualAddress};

/// When an operation's turn is. Operations of one stage and table go to the kernel together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Tables, what filters and masquerades, and the device by which other software does so, too.
    Protect,
    /// Virtual servers, then real servers.
    Serve,
    /// RouteTable to pools.
    Attract,
    /// Front ends: where they lead, and refusals and drops for those that lead nowhere.
    Lead,
    /// RouteTable that are no longer wanted, then what an earlier version had: its rules decide on new
    /// connections as long as they are there, and lead some to virtual servers that are to retire.
    Repel,
    /// Real servers to drain, then real servers and virtual servers that are no longer wanted.
    /// Adding first leaves no pool without a server, and keeps the kernel from searching its trash
    /// of removed real servers for each one added.
    Retire,
    /// What connection tracking remembers of where they went.
    Forget,
    /// What filtered and masqueraded for them. It stays until then, so that an agent that starts anew
    /// knows of front ends that have gone, and forgets the rest.
    Expose,
}

impl Stage {
    /// The stage of an operation.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Filter(FilterOperation::CreateTables) => Self::Protect,
            Operation::Filter(FilterOperation::DeleteTables) => Self::Expose,
            // All in one transaction: a map key may get a new value, and a front end that leads
            // elsewhere is neither dropped nor refused before or after.
            Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element))
                if leads(element) =>
            {
                Self::Lead
            }
            Operation::Filter(FilterOperation::Add(_)) => Self::Protect,
            Operation::Filter(FilterOperation::Delete(_)) => Self::Expose,
            Operation::Route(RouteOperation::CreateDevice) => Self::Protect,
            Operation::Route(RouteOperation::Add(_)) => Self::Attract,
            Operation::Route(RouteOperation::Delete(_) | RouteOperation::DeleteDevice)
            | Operation::DeleteEarlier => Self::Repel,
            Operation::Server(ServerOperation::Delete(_) | ServerOperation::DeleteReal(..)) => {
                Self::Retire
            }
            Operation::Server(ServerOperation::SetReal(_, backend)) if backend.is_draining() => {
                Self::Retire
            }
            Operation::Server(_) => Self::Serve,
            Operation::Flow(_) => Self::Forget,
        }
    }

    /// The stage of an operation among all those of a plan: what stands where something new is to
    /// stand goes in the transaction that brings it.
    pub(super) fn among(operation: &Operation, taken: &FxHashSet<ExclusiveKey>) -> Self {
        match operation {
            Operation::Filter(FilterOperation::Delete(element))
                if ExclusiveKey::of(element).is_some_and(|place| taken.contains(&place)) =>
            {
                Self::of(&FilterOperation::Add(*element).into())
            }
            _ => Self::of(operation),
        }
    }

    /// The order within a stage, where there is one.
    #[must_use]
    pub fn rank(operation: &Operation) -> u8 {
        match operation {
            Operation::Filter(FilterOperation::CreateTables)
            | Operation::Route(RouteOperation::CreateDevice) => 0,
            Operation::Filter(FilterOperation::Delete(_)) => 1,
            Operation::Filter(FilterOperation::Add(_)) => 2,
            Operation::DeleteEarlier | Operation::Server(ServerOperation::DeleteReal(..)) => 2,
            Operation::Server(ServerOperation::Delete(_)) => 3,
            // Virtual servers and their real servers stay together: one failing virtual server
            // is then followed by its own real servers only.
            _ => 1,
        }
    }
}

fn leads(element: &Element) -> bool {
    matches!(
        element,
        Element::Range(RangeSet::ServiceRanges, _)
            | Element::Address(
                AddressSet::ClusterIps | AddressSet::SeveralPorts | AddressSet::FrontendIps,
                _,
            )
            | Element::Lead(..)
            | Element::Port(PortSet::Dropped | PortSet::Refused, _)
    )
}

/// Where elements cannot stand beside each other: the ranges of a set, or of one front end in it,
/// must not overlap, a map key has one value, and a ClusterIP is in one set, at any moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum ExclusiveKey {
    Set(&'static str),
    Frontend(&'static str, VirtualAddress),
    ClusterIp(IpAddr),
}

impl ExclusiveKey {
    /// The place of an element, if it does not go with all others.
    pub(super) fn of(element: &Element) -> Option<Self> {
        match element {
            Element::Allowed(address, _) | Element::Lead(_, address, ..) => {
                Some(Self::Frontend(element.set(), *address))
            }
            Element::Range(..) | Element::Interfaces(..) => Some(Self::Set(element.set())),
            Element::Address(AddressSet::ClusterIps | AddressSet::SeveralPorts, ip) => {
                Some(Self::ClusterIp(*ip))
            }
            _ => None,
        }
    }

    /// The place of a key's element.
    pub(super) fn of_key(key: &ObjectKey) -> Option<Self> {
        match key {
            ObjectKey::Element(element) => Self::of(element),
            _ => None,
        }
    }

    /// The place that an operation adds to, if any.
    pub(super) fn taken_by(operation: &Operation) -> Option<Self> {
        match operation {
            Operation::Filter(FilterOperation::Add(element)) => Self::of(element),
            _ => None,
        }
    }

    /// The place that an operation deletes from, if any.
    pub(super) fn given_up_by(operation: &Operation) -> Option<Self> {
        match operation {
            Operation::Filter(FilterOperation::Delete(element)) => Self::of(element),
            _ => None,
        }
    }
}
