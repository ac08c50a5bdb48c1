//! Entries of connection tracking that keep UDP clients from where they should go now.
//!
//! A front end translates the first datagram of a flow; connection tracking carries the others,
//! past IPVS. So its entries are removed when a real server goes, or when the front end changes.
//! So are those of datagrams that no virtual server has taken: they were sent before there was one,
//! and the next ones would neither be translated back nor be masqueraded.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{FilterOperation, FlowOperation, Operation, ServerOperation};
use crate::model::{AddressSet, Element, Family, PortSet, Protocol, VirtualAddress, VirtualServer};

/// Which entries are to be removed, and which front ends lead where.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// The front ends that lead to a virtual server, each with how many elements lead it there:
    /// inside and outside are two.
    to: FxHashMap<VirtualAddress, BTreeMap<VirtualAddress, u32>>,
    /// The addresses that take node ports.
    node_port_ips: BTreeSet<IpAddr>,
    /// Those that took them and do no more once the plan has been carried out.
    former_ips: BTreeSet<IpAddr>,
    /// To be removed with the next plan.
    due: FxHashSet<FlowOperation>,
}

impl Flows {
    /// Notes that an element is needed from now on.
    pub(super) fn need(&mut self, element: &Element) {
        if let Element::Address(AddressSet::NodePortIps, ip) = element {
            self.node_port_ips.insert(*ip);
        }
        if let Some((frontend, pool)) = lead(element) {
            *self.to.entry(pool).or_default().entry(frontend).or_default() += 1;
        }
    }

    /// Notes that an element is needed no more.
    pub(super) fn need_no_more(&mut self, element: &Element) {
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

    /// Notes which entries will mislead clients once the operations of a plan have taken place.
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
            ) => self.mislead_at(*ip),
            // The last of a front end that goes. An agent may have been stopped before its flows went.
            Operation::Filter(FilterOperation::Delete(Element::Port(
                PortSet::Masqueraded | PortSet::MasqueradedNode | PortSet::Datagrams,
                frontend,
            ))) if frontend.protocol == Protocol::Udp => self.mislead(*frontend, None),
            Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element)) => {
                if let Some((frontend, _)) = lead(element) {
                    self.mislead(frontend, None);
                }
            }
            Operation::Server(ServerOperation::Add(VirtualServer { address, .. }))
                if address.protocol == Protocol::Udp =>
            {
                let unscheduled = Some(SocketAddr::new(address.ip, address.port));
                self.leave(address, unscheduled);
                self.mislead(*address, unscheduled);
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

    /// Notes that entries of the front ends that lead to a virtual server mislead.
    fn leave(&mut self, server: &VirtualAddress, backend: Option<SocketAddr>) {
        let frontends = self.to.get(server).into_iter().flat_map(BTreeMap::keys);
        for frontend in frontends.copied().collect::<Vec<_>>() {
            self.mislead(frontend, backend);
        }
    }

    /// Notes that entries of a front end mislead.
    pub(super) fn mislead(&mut self, frontend: VirtualAddress, backend: Option<SocketAddr>) {
        let flow = |frontend| FlowOperation { frontend, backend, carrier: None };
        let addresses = self.addresses(frontend);
        self.due.extend(addresses.into_iter().map(flow));
    }

    /// Notes that entries of all node ports mislead at an address that takes them from now on, or no
    /// more.
    fn mislead_at(&mut self, ip: IpAddr) {
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

    /// The addresses that clients of a front end send to.
    pub(super) fn addresses(&self, frontend: VirtualAddress) -> Vec<VirtualAddress> {
        if !frontend.ip.is_unspecified() {
            return vec![frontend];
        }
        let of_family = |ip: &&IpAddr| Family::of(**ip) == frontend.family();
        let ips = self.node_port_ips.iter().chain(&self.former_ips);
        ips.filter(of_family).map(|ip| frontend.at(*ip)).collect()
    }

    /// Notes that entries that were not removed are to be removed with the next plan.
    pub(super) fn retry(&mut self, operation: FlowOperation) {
        self.due.insert(operation);
    }

    /// The entries that are to be removed now. One that fails is to be noted again.
    pub(super) fn take_due(&mut self) -> FxHashSet<FlowOperation> {
        mem::take(&mut self.due)
    }
}

/// The UDP front end that an element leads to a pool, and that pool.
fn lead(element: &Element) -> Option<(VirtualAddress, VirtualAddress)> {
    element.lead().filter(|(frontend, _)| frontend.protocol == Protocol::Udp)
}
