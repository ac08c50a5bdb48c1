//! What operations are about.

use ipnet::IpNet;

use super::{FilterOperation, FlowOperation, Operation, RouteOperation};
use crate::model::{Element, Family, RouteTable, VirtualAddress};

/// One thing that the kernel may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// Our nf_tables tables with their rules.
    Tables,
    /// Our device.
    Device,
    /// The policy rule of a family, of earlier versions.
    Rule(Family),
    /// A set element.
    Element(Element),
    /// A route.
    Route(IpNet, RouteTable),
    /// A virtual server with its real servers.
    Pool(VirtualAddress),
    /// Entries of connection tracking that are in the way.
    Flow(FlowOperation),
}

impl Key {
    /// What is to be there whatever the Services.
    pub(super) const GROUND: [Self; 2] = [Self::Tables, Self::Device];

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
                RouteOperation::DeleteRule(family) => Self::Rule(family),
                RouteOperation::Add(route) | RouteOperation::Delete(route) => {
                    Self::Route(route.prefix, route.table)
                }
            },
            Operation::Flow(flow) => Self::Flow(flow),
        }
    }
}
