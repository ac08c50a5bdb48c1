//! Stale connection-tracking entries of UDP clients.
//!
//! A front end translates the first datagram of a flow; connection tracking carries the others past
//! IPVS. So its entries are removed when a real server is removed or the front end changes. Entries
//! of datagrams that no virtual server took are removed, too: they are older than the virtual
//! server, and later datagrams would be neither translated back nor masqueraded.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{FilterOperation, FlowOperation, Operation, ServerOperation};
use crate::model::{AddressSet, Element, Family, PortSet, Protocol, VirtualAddress, VirtualServer};

/// The entries to remove, and the pools of the front ends.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// The front ends of each virtual server, with the number of elements that map them to it:
    /// local and external clients count separately.
    to: FxHashMap<VirtualAddress, BTreeMap<VirtualAddress, u32>>,
    node_port_ips: BTreeSet<IpAddr>,
    /// Addresses that no longer take node ports once the plan is carried out.
    former_ips: BTreeSet<IpAddr>,
    /// To be removed with the next plan.
    due: FxHashSet<FlowOperation>,
}

impl Flows {
    pub(super) fn acquire(&mut self, element: &Element) {
        if let Element::Address(AddressSet::NodePortIps, ip) = element {
            self.node_port_ips.insert(*ip);
        }
        if let Some((frontend, pool)) = lead(element) {
            *self.to.entry(pool).or_default().entry(frontend).or_default() += 1;
        }
    }

    pub(super) fn release(&mut self, element: &Element) {
        if let Element::Address(AddressSet::NodePortIps, ip) = element {
            self.node_port_ips.remove(ip);
        }
        let Some((frontend, pool)) = lead(element) else { return };
        let Some(frontends) = self.to.get_mut(&pool) else { return };
        if let Some(elements) = frontends.get_mut(&frontend) {
            *elements -= 1;
            if *elements == 0 {
                frontends.remove(&frontend);
            }
        }
        if frontends.is_empty() {
            self.to.remove(&pool);
        }
    }

    /// Records the entries that become stale with the operations of a plan.
    pub(super) fn follow(&mut self, operations: &[Operation]) {
        let former_ip = |operation: &Operation| match operation {
            Operation::Filter(FilterOperation::Delete(Element::Address(
                AddressSet::NodePortIps,
                ip,
            ))) => Some(*ip),
            _ => None,
        };
        self.former_ips = operations.iter().filter_map(former_ip).collect();
        operations.iter().for_each(|operation| self.follow_one(operation));
        self.former_ips.clear();
    }

    fn follow_one(&mut self, operation: &Operation) {
        match operation {
            Operation::Filter(
                FilterOperation::Add(Element::Address(AddressSet::NodePortIps, ip))
                | FilterOperation::Delete(Element::Address(AddressSet::NodePortIps, ip)),
            ) => self.flush_node_ports(*ip),
            // The last element of a removed front end. An agent may have stopped before it removed
            // the flows.
            Operation::Filter(FilterOperation::Delete(Element::Port(
                PortSet::Masqueraded | PortSet::MasqueradedNode | PortSet::Datagrams,
                frontend,
            ))) if frontend.protocol == Protocol::Udp => self.flush(*frontend, None),
            // Connection tracking has each flow of the front end, translated or not.
            Operation::Filter(
                FilterOperation::Add(Element::Port(PortSet::OnePacket, frontend))
                | FilterOperation::Delete(Element::Port(PortSet::OnePacket, frontend)),
            ) => self.flush(*frontend, None),
            Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element)) => {
                if let Some((frontend, _)) = lead(element) {
                    self.flush(frontend, None);
                }
            }
            Operation::Server(ServerOperation::Add(VirtualServer { address, .. }))
                if address.protocol == Protocol::Udp =>
            {
                let unscheduled = Some(SocketAddr::new(address.ip, address.port));
                self.leave(address, unscheduled);
                self.flush(*address, unscheduled);
            }
            Operation::Server(ServerOperation::Delete(server)) => {
                self.leave(server, None);
            }
            Operation::Server(ServerOperation::DeleteReal(server, backend)) => {
                self.leave(server, Some(backend.socket()));
            }
            _ => {}
        }
    }

    /// Marks the entries of all front ends of a virtual server as stale.
    fn leave(&mut self, server: &VirtualAddress, backend: Option<SocketAddr>) {
        let frontends = self.to.get(server).into_iter().flat_map(BTreeMap::keys);
        for frontend in frontends.copied().collect::<Vec<_>>() {
            self.flush(frontend, backend);
        }
    }

    pub(super) fn flush(&mut self, frontend: VirtualAddress, backend: Option<SocketAddr>) {
        let flow = |frontend| FlowOperation { frontend, backend, carrier: None };
        let addresses = self.addresses(frontend);
        self.due.extend(addresses.into_iter().map(flow));
    }

    /// Marks the entries of all node ports at an address as stale.
    fn flush_node_ports(&mut self, ip: IpAddr) {
        let anywhere = Family::of(ip).unspecified();
        let frontends = self.to.values().flat_map(BTreeMap::keys);
        let node_ports = frontends.filter(|frontend| frontend.ip == anywhere);
        let flow = |it: &VirtualAddress| FlowOperation {
            frontend: it.at(ip),
            backend: None,
            carrier: None,
        };
        self.due.extend(node_ports.map(flow));
    }

    /// Returns the addresses that clients of a front end use.
    pub(super) fn addresses(&self, frontend: VirtualAddress) -> Vec<VirtualAddress> {
        if !frontend.ip.is_unspecified() {
            return vec![frontend];
        }
        let of_family = |ip: &&IpAddr| Family::of(**ip) == frontend.family();
        let ips = self.node_port_ips.iter().chain(&self.former_ips);
        ips.filter(of_family).map(|ip| frontend.at(*ip)).collect()
    }

    /// Schedules entries that could not be removed for the next plan.
    pub(super) fn retry(&mut self, operation: FlowOperation) {
        self.due.insert(operation);
    }

    /// Returns the entries to remove now. The caller records failures again.
    pub(super) fn take_due(&mut self) -> FxHashSet<FlowOperation> {
        mem::take(&mut self.due)
    }
}

/// Returns the UDP front end that an element maps to a pool, and the pool.
fn lead(element: &Element) -> Option<(VirtualAddress, VirtualAddress)> {
    element.lead().filter(|(frontend, _)| frontend.protocol == Protocol::Udp)
}
