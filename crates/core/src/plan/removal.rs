//! Ownership of the kernel's state, and its removal.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::stage::Stage;
use super::{FilterOperation, Observed, Operation, RouteOperation, ServerOperation};
use crate::model::{
    AddressSet, Element, PortSet, Protocol, RangeSet, VirtualAddress, shadow_ranges,
};

/// Returns whether the agent's tables, or those of an earlier version, mark a virtual server as the
/// agent's.
///
/// Ownership is visible in the kernel: the agent's virtual servers are those whose address has a
/// route of the agent or lies in a service range, in one of its shadow ranges or in set `pools`,
/// and those in set `former`. The routes still show this after another program has flushed all
/// tables.
pub fn is_named(observed: &Observed) -> impl Fn(&VirtualAddress) -> bool + use<> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let mut ips: FxHashSet<IpAddr> =
        observed.routes.iter().map(|route| route.prefix.addr()).collect();
    let mut former: FxHashSet<VirtualAddress> = FxHashSet::default();
    for element in observed.elements.iter().chain(observed.earlier.iter().flatten()) {
        match element {
            Element::Range(RangeSet::ServiceRanges, range) => {
                ranges.push(*range);
                ranges.extend(shadow_ranges(*range));
            }
            Element::Address(AddressSet::Pools, ip) => {
                ips.insert(*ip);
            }
            Element::Port(PortSet::Former, server) => {
                former.insert(*server);
            }
            _ => {}
        }
    }
    move |address| {
        ips.contains(&address.ip)
            || former.contains(address)
            || ranges.iter().any(|range| range.contains(&address.ip))
    }
}

/// The virtual servers that kube-proxy claims; IPVS itself does not record an owner.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ForeignClaims {
    /// The addresses on its device: those of all Services, without node ports.
    pub addresses: FxHashSet<IpAddr>,
    /// The node's other addresses.
    pub node_addresses: FxHashSet<IpAddr>,
    /// The node ports in its sets.
    pub node_ports: FxHashSet<(Protocol, u16)>,
}

impl ForeignClaims {
    /// Returns whether kube-proxy claims the virtual server at an address.
    #[must_use]
    pub fn has(&self, address: &VirtualAddress) -> bool {
        let VirtualAddress { ip, port, protocol } = address;
        self.addresses.contains(ip)
            || (self.node_addresses.contains(ip) && self.node_ports.contains(&(*protocol, *port)))
    }
}

/// Returns whether kube-proxy has left a virtual server that is not the agent's.
pub fn is_orphan(observed: &Observed) -> impl Fn(&VirtualAddress) -> bool {
    let is_named = is_named(observed);
    move |address| observed.claims.has(address) && !is_named(address)
}

/// Returns whether a full removal deletes a virtual server. One that kube-proxy claims is left to
/// it, because kube-proxy would not restore it at once.
pub fn is_removed(observed: &Observed) -> impl Fn(&VirtualAddress) -> bool {
    let is_named = is_named(observed);
    move |address| is_named(address) && !observed.claims.has(address)
}

/// Plans the takeover of kube-proxy's leftover virtual servers: the agent marks them as its own and
/// drains them. Without an agent they are deleted.
#[must_use]
pub fn orphans(observed: &Observed) -> Vec<Operation> {
    let servers = observed.pools.iter().map(|pool| pool.server.address);
    let operation = |address| match observed.has_tables() {
        true => FilterOperation::Add(Element::Port(PortSet::Former, address)).into(),
        false => ServerOperation::Delete(address).into(),
    };
    servers.filter(is_orphan(observed)).map(operation).collect()
}

/// Plans the removal of everything that leads new connections to the agent's pools. Established
/// connections continue.
#[must_use]
pub fn release(observed: &Observed) -> Vec<Operation> {
    let operations = observed.elements.iter().map(|it| FilterOperation::Delete(*it).into());
    operations.filter(|operation| Stage::of(operation) == Stage::Lead).collect()
}

/// Plans the removal of all state of the agent in a safe order: what attracts traffic first.
#[must_use]
pub fn removal(observed: &Observed) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    for route in &observed.routes {
        operations.push(RouteOperation::Delete(*route).into());
    }
    if observed.earlier.is_some() {
        operations.push(Operation::DeleteEarlier);
    }
    // A device with addresses is kube-proxy's.
    if observed.device && observed.claims.addresses.is_empty() {
        operations.push(RouteOperation::DeleteDevice.into());
    }
    let servers = observed.pools.iter().map(|pool| pool.server.address);
    for address in servers.filter(is_removed(observed)) {
        operations.push(ServerOperation::Delete(address).into());
    }
    if observed.has_tables() {
        operations.push(FilterOperation::DeleteTables.into());
    }
    operations.sort_by_key(Stage::of);
    operations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pool, Scheduler, VirtualServer};

    fn at(text: &str) -> VirtualAddress {
        text.parse().expect("an address")
    }

    fn pool(address: &str) -> Pool {
        let server = VirtualServer::new(at(address), Scheduler::Rr);
        Pool::from(server)
    }

    #[test]
    fn service_ranges_and_their_shadow_ranges_are_ours() {
        let ranges = ["10.96.0.0/16", "fd00:96::/108"].map(|net| net.parse().expect("a range"));
        let elements = ranges.map(|net| Element::Range(RangeSet::ServiceRanges, net)).to_vec();
        let is_named = is_named(&Observed { elements, ..Observed::default() });
        for ours in ["10.96.0.20:80", "250.96.0.20:80", "242.96.0.20:80", "246.96.0.20:80"] {
            assert!(is_named(&at(ours)), "{ours}");
        }
        for ours in ["[fd00:96::20]:80", "[fc00:96::20]:80", "[fcc0:96::20]:80"] {
            assert!(is_named(&at(ours)), "{ours}");
        }
        for other in ["10.97.0.20:80", "234.96.0.20:80", "[fc20:96::20]:80"] {
            assert!(!is_named(&at(other)), "{other}");
        }
    }

    #[test]
    fn orphaned_virtual_servers_are_left_to_the_agent() {
        let claims = ForeignClaims {
            addresses: [at("10.96.0.20:80").ip].into_iter().collect(),
            ..ForeignClaims::default()
        };
        let observed =
            Observed { pools: vec![pool("10.96.0.20:80")], claims, ..Observed::default() };
        assert_eq!(orphans(&observed), [ServerOperation::Delete(at("10.96.0.20:80")).into()]);
        // Tables of another version, or with a flowtable.
        let elements = vec![Element::Address(AddressSet::NodePortIps, at("192.0.2.1:80").ip)];
        let observed = Observed { elements, ..observed };
        assert_eq!(
            orphans(&observed),
            [FilterOperation::Add(Element::Port(PortSet::Former, at("10.96.0.20:80"))).into()]
        );
    }
}
