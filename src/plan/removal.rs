//! Which of what the kernel holds is ours, and how to remove it.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::stage::Stage;
use super::{FilterOperation, Observed, Operation, RouteOperation, ServerOperation};
use crate::model::{Element, Protocol, VirtualAddress};

/// The virtual servers that the elements of our table name as ours.
///
/// Ownership is visible in the kernel: our virtual servers are those whose address lies in a
/// service range or is in set `pools`.
pub fn is_named(elements: &[Element]) -> impl Fn(&VirtualAddress) -> bool + use<> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let mut ips: FxHashSet<IpAddr> = FxHashSet::default();
    for element in elements {
        match element {
            Element::ServiceRange(range) => ranges.push(*range),
            Element::Pool(ip) => {
                ips.insert(*ip);
            }
            _ => {}
        }
    }
    move |address| {
        ips.contains(&address.ip) || ranges.iter().any(|range| range.contains(&address.ip))
    }
}

/// What kube-proxy claims of IPVS, which does not tell whose a virtual server is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// The addresses on its device: those of all Services, but for node ports.
    pub addresses: FxHashSet<IpAddr>,
    /// The machine's other addresses.
    pub node_addresses: FxHashSet<IpAddr>,
    /// The node ports in its sets.
    pub node_ports: FxHashSet<(Protocol, u16)>,
}

impl Claims {
    fn has(&self, address: &VirtualAddress) -> bool {
        let VirtualAddress { ip, port, protocol } = address;
        self.addresses.contains(ip)
            || (self.node_addresses.contains(ip) && self.node_ports.contains(&(*protocol, *port)))
    }
}

/// The virtual servers that kube-proxy has left and that are not ours.
pub fn is_orphan(observed: &Observed, claims: &Claims) -> impl Fn(&VirtualAddress) -> bool {
    let is_named = is_named(&observed.elements);
    move |address| claims.has(address) && !is_named(address)
}

/// The virtual servers that go when all that is ours does. One that kube-proxy claims is left to
/// it, or there would be none until it notices.
pub fn is_removed(observed: &Observed, claims: &Claims) -> impl Fn(&VirtualAddress) -> bool {
    let is_named = is_named(&observed.elements);
    move |address| is_named(address) && !claims.has(address)
}

/// The operations that remove the virtual servers that kube-proxy has left and that are not ours.
#[must_use]
pub fn orphans(observed: &Observed, claims: &Claims) -> Vec<Operation> {
    let servers = observed.pools.iter().map(|pool| pool.server.address);
    let orphans = servers.filter(is_orphan(observed, claims));
    orphans.map(|address| ServerOperation::Delete(address).into()).collect()
}

/// The operations that remove all that is ours, in a safe order: what attracts traffic first.
#[must_use]
pub fn removal(observed: &Observed, claims: &Claims) -> Vec<Operation> {
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
    let servers = observed.pools.iter().map(|pool| pool.server.address);
    for address in servers.filter(is_removed(observed, claims)) {
        operations.push(ServerOperation::Delete(address).into());
    }
    if observed.tables || !observed.elements.is_empty() {
        operations.push(FilterOperation::DeleteTables.into());
    }
    operations.sort_by_key(Stage::of);
    operations
}
