//! What operations are about.

use ipnet::IpNet;

use super::{FilterOperation, FlowOperation, Operation, RouteOperation};
use crate::model::{Element, VirtualAddress};

/// One thing that the kernel may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ObjectKey {
    /// Our nf_tables tables with their rules.
    Tables,
    /// Our device.
    Device,
    /// What an earlier version has left.
    Earlier,
    /// A set element.
    Element(Element),
    /// The route of a prefix.
    Route(IpNet),
    /// A virtual server with its real servers.
    Pool(VirtualAddress),
    /// Entries of connection tracking that are in the way.
    Flow(FlowOperation),
}

impl ObjectKey {
    /// What is to be there, or not, whatever the Services.
    pub(super) const GROUND: [Self; 3] = [Self::Tables, Self::Device, Self::Earlier];

    /// What an operation is about.
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
