//! Which of what the kernel holds is ours, and how to remove it.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::stage::Stage;
use super::{FilterOperation, Observed, Operation, RouteOperation, ServerOperation};
use crate::model::{Element, VirtualAddress};

/// The virtual servers that the elements of our table name as ours.
///
/// Ownership is visible in the kernel: our virtual servers are those whose address lies in a
/// service range or that a set of our table names.
pub fn is_named(elements: &[Element]) -> impl Fn(&VirtualAddress) -> bool + use<> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let mut ips: FxHashSet<IpAddr> = FxHashSet::default();
    let mut addresses: FxHashSet<VirtualAddress> = FxHashSet::default();
    for element in elements {
        match element {
            Element::ServiceRange(range) | Element::ImageRange(range) => ranges.push(*range),
            Element::ClusterIp(ip) => {
                ips.insert(*ip);
            }
            Element::Frontend(address) => {
                addresses.insert(*address);
            }
            _ => {}
        }
    }
    move |address| {
        ips.contains(&address.ip)
            || addresses.contains(address)
            || ranges.iter().any(|range| range.contains(&address.ip))
    }
}

/// The operations that remove all that is ours, in a safe order: what attracts traffic first.
#[must_use]
pub fn removal(observed: &Observed) -> Vec<Operation> {
    let is_ours = is_named(&observed.elements);
    let mut operations: Vec<Operation> = Vec::new();
    for route in &observed.routes {
        operations.push(RouteOperation::Delete(*route).into());
    }
    for family in &observed.rules {
        operations.push(RouteOperation::DeleteRule(*family).into());
    }
    if observed.device {
        operations.push(RouteOperation::DeleteDevice.into());
    }
    for pool in observed.pools.iter().filter(|pool| is_ours(&pool.server.address)) {
        operations.push(ServerOperation::Delete(pool.server.address).into());
    }
    if observed.tables || !observed.elements.is_empty() {
        operations.push(FilterOperation::DeleteTables.into());
    }
    operations.sort_by_key(Stage::of);
    operations
}
