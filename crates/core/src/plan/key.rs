//! The objects of operations.

use ipnet::IpNet;

use super::{FilterOperation, FlowOperation, Operation, RouteOperation};
use crate::model::{Element, VirtualAddress};

/// An object in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKey {
    /// The nf_tables tables with their rules.
    Tables,
    Device,
    /// Leftovers of an earlier version.
    Earlier,
    Element(Element),
    /// The route of a prefix.
    Route(IpNet),
    /// A virtual server with its real servers.
    Pool(VirtualAddress),
    /// Stale connection-tracking entries.
    Flow(FlowOperation),
}

impl ObjectKey {
    /// The objects that do not depend on Services.
    pub(super) const BASE: [Self; 3] = [Self::Tables, Self::Device, Self::Earlier];

    /// Returns the object of an operation.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        match *operation {
            Operation::Filter(operation) => match operation {
                FilterOperation::CreateTables | FilterOperation::DeleteTables => Self::Tables,
                FilterOperation::Add(element) | FilterOperation::Delete(element) => {
                    Self::Element(element)
                }
            },
            Operation::Server(operation) => Self::Pool(operation.address()),
            Operation::Route(operation) => match operation {
                RouteOperation::CreateDevice | RouteOperation::DeleteDevice => Self::Device,
                RouteOperation::Add(route) | RouteOperation::Delete(route) => {
                    Self::Route(route.prefix)
                }
            },
            Operation::Flow(flow) => Self::Flow(flow),
            Operation::DeleteEarlier => Self::Earlier,
        }
    }
}
