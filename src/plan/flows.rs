//! Entries of connection tracking that keep UDP clients from where they should go now.
//!
//! A short-circuit translates the first datagram of a flow; connection tracking carries the others,
//! past IPVS. So its entries have to be removed when a real server goes, or the short-circuit
//! itself. So have those that were made before there was a front end. Connections of other
//! protocols end by themselves.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{FilterOperation, FlowOperation, Operation, ServerOperation};
use crate::model::{Element, Protocol, VirtualAddress};

/// Which entries are to be removed, and which front ends lead where by a short-circuit.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// The front ends that lead to a virtual server, each with how many elements lead it there: a
    /// pod's and a process's are two.
    to: FxHashMap<VirtualAddress, BTreeMap<VirtualAddress, u32>>,
    /// To be removed with the next plan.
    due: FxHashSet<FlowOperation>,
}

impl Flows {
    /// Notes that an element is needed from now on.
    pub(super) fn need(&mut self, element: &Element) {
        if let Some((frontend, target)) = shortcut(element) {
            *self.to.entry(target).or_default().entry(frontend).or_default() += 1;
        }
    }

    /// Notes that an element is needed no more.
    pub(super) fn need_no_more(&mut self, element: &Element) {
        let Some((frontend, target)) = shortcut(element) else { return };
        let Some(frontends) = self.to.get_mut(&target) else { return };
        if let Some(elements) = frontends.get_mut(&frontend) {
            *elements -= 1;
            if *elements == 0 {
                frontends.remove(&frontend);
            }
        }
        if frontends.is_empty() {
            self.to.remove(&target);
        }
    }

    /// Notes which entries will mislead clients once an operation has taken place.
    pub(super) fn follow(&mut self, operation: &Operation) {
        match operation {
            Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element)) => {
                self.due.extend(misled_by(element));
            }
            Operation::Server(ServerOperation::Delete(server)) => {
                self.mislead(server, None);
            }
            Operation::Server(ServerOperation::DeleteReal(server, backend)) => {
                self.mislead(server, Some(SocketAddr::new(backend.address, backend.port)));
            }
            _ => {}
        }
    }

    /// Notes that entries of the front ends that lead to a virtual server mislead.
    fn mislead(&mut self, server: &VirtualAddress, backend: Option<SocketAddr>) {
        let frontends = self.to.get(server).into_iter().flat_map(BTreeMap::keys);
        let entries = frontends.map(|frontend| FlowOperation { frontend: *frontend, backend });
        self.due.extend(entries);
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

fn shortcut(element: &Element) -> Option<(VirtualAddress, VirtualAddress)> {
    match *element {
        Element::PodShortcut(frontend, ip, port) | Element::NodeShortcut(frontend, ip, port)
            if frontend.protocol == Protocol::Udp =>
        {
            Some((frontend, VirtualAddress { ip, port, ..frontend }))
        }
        _ => None,
    }
}

fn misled_by(element: &Element) -> Option<FlowOperation> {
    let (Element::Frontend(frontend)
    | Element::PodShortcut(frontend, ..)
    | Element::NodeShortcut(frontend, ..)) = element
    else {
        return None;
    };
    let all = FlowOperation { frontend: *frontend, backend: None };
    (frontend.protocol == Protocol::Udp).then_some(all)
}
