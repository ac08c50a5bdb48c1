//! The order of operations across tables. It makes every prefix of a plan safe: protection and
//! masquerading come before what attracts traffic, and attraction ends before service does.

use std::net::IpAddr;

use rustc_hash::FxHashSet;

use super::{FilterOperation, Operation, RouteOperation, ServerOperation};
use crate::model::{AddressSet, Element, PortSet, RangeSet, VirtualAddress};

/// The stages of a plan. Operations of one stage and table go to the kernel together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Tables, filters, masquerading, and the device that makes other software filter and
    /// masquerade, too.
    Protect,
    Serve,
    /// Routes to pools.
    Attract,
    /// The targets of front ends, and their rejections and drops.
    Lead,
    /// Routes that are no longer desired, then the leftovers of an earlier version: its rules
    /// decide on new connections as long as they exist, and send some to virtual servers that are
    /// removed next.
    Repel,
    /// Draining real servers, then real servers and virtual servers that are no longer desired.
    /// Additions come first, so that no pool is without a server, and the kernel does not search
    /// its trash of removed real servers for each addition.
    Retire,
    /// Connection-tracking entries for the removed targets.
    Forget,
    /// Filters and masquerading of removed front ends. They stay until this stage, so that a
    /// restarted agent recognises removed front ends and finishes the removal.
    Expose,
}

impl Stage {
    /// Returns the stage of an operation.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Filter(FilterOperation::CreateTables) => Self::Protect,
            Operation::Filter(FilterOperation::DeleteTables) => Self::Expose,
            // One transaction: a map key may get a new value, and a front end with a new target is
            // never dropped or rejected meanwhile.
            Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element))
                if leads(element) =>
            {
                Self::Lead
            }
            // Front ends of node ports may come or go in the same plan. The address is removed in stage
            // Expose, because an agent that starts knows by it of flows.
            Operation::Filter(FilterOperation::Add(Element::Address(
                AddressSet::NodePortIps,
                _,
            ))) => Self::Lead,
            Operation::Filter(FilterOperation::Add(_)) => Self::Protect,
            Operation::Filter(FilterOperation::Delete(_)) => Self::Expose,
            Operation::Route(RouteOperation::CreateDevice) => Self::Protect,
            Operation::Route(RouteOperation::Add(_)) => Self::Attract,
            Operation::Route(RouteOperation::Delete(_) | RouteOperation::DeleteDevice)
            | Operation::DeleteEarlier => Self::Repel,
            Operation::Server(ServerOperation::Delete(_) | ServerOperation::DeleteReal(..)) => {
                Self::Retire
            }
            Operation::Server(ServerOperation::SetReal(_, backend, _)) if backend.is_draining() => {
                Self::Retire
            }
            Operation::Server(_) => Self::Serve,
            Operation::Flow(_) => Self::Forget,
        }
    }

    /// Returns the stage of an operation within its plan: an element whose place is taken by a new
    /// one is deleted in the transaction that adds the new one.
    pub(super) fn among(operation: &Operation, taken: &FxHashSet<ExclusiveKey>) -> Self {
        match operation {
            Operation::Filter(FilterOperation::Delete(element))
                if ExclusiveKey::of(operation).is_some_and(|place| taken.contains(&place)) =>
            {
                Self::of(&FilterOperation::Add(*element).into())
            }
            _ => Self::of(operation),
        }
    }

    /// Returns the order within a stage.
    #[must_use]
    pub fn rank(operation: &Operation) -> u8 {
        match operation {
            Operation::Filter(FilterOperation::CreateTables)
            | Operation::Route(RouteOperation::CreateDevice) => 0,
            Operation::Filter(FilterOperation::Delete(_)) => 1,
            Operation::Filter(FilterOperation::Add(_)) => 2,
            Operation::DeleteEarlier | Operation::Server(ServerOperation::DeleteReal(..)) => 2,
            Operation::Server(ServerOperation::Delete(_)) => 3,
            // Virtual servers and their real servers stay together, so that a failed virtual server
            // affects only its own real servers.
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
            | Element::OnePacket(..)
            | Element::OnePacketPort(..)
            | Element::Port(PortSet::Dropped | PortSet::Refused | PortSet::OnePacket, _)
    )
}

/// A place for one element at a time: the ranges of a set or of one of its front ends must not
/// overlap, a map key has one value, and a ClusterIP is in one set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum ExclusiveKey {
    Set(&'static str),
    Frontend(&'static str, VirtualAddress),
    ClusterIp(IpAddr),
}

impl ExclusiveKey {
    /// Returns the place that an operation takes or gives up. Most elements are compatible with all
    /// others and need none.
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        let Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element)) =
            operation
        else {
            return None;
        };
        match element {
            Element::Allowed(address, _)
            | Element::Lead(_, address, ..)
            | Element::OnePacket(_, address, _)
            | Element::OnePacketPort(address, _) => Some(Self::Frontend(element.set(), *address)),
            Element::Range(..) | Element::Interfaces(..) => Some(Self::Set(element.set())),
            Element::Address(AddressSet::ClusterIps | AddressSet::SeveralPorts, ip) => {
                Some(Self::ClusterIp(*ip))
            }
            _ => None,
        }
    }
}
