//! Which UDP front ends lead to a virtual server by a short-circuit.
//!
//! The first datagram alone is translated; connection tracking carries the others, past IPVS. So
//! its entries have to be removed when a real server goes.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::model::{Element, Protocol, VirtualAddress};

/// The short-circuits, by where they lead.
#[derive(Debug, Default)]
pub(super) struct Shortcuts {
    /// Each front end with how many elements lead it there: a pod's and a process's are two.
    by_target: FxHashMap<VirtualAddress, BTreeMap<VirtualAddress, u32>>,
}

impl Shortcuts {
    /// Notes an element, if it is a short-circuit of UDP.
    pub(super) fn add(&mut self, element: &Element) {
        if let Some((frontend, target)) = shortcut(element) {
            *self.by_target.entry(target).or_default().entry(frontend).or_default() += 1;
        }
    }

    /// Forgets an element.
    pub(super) fn remove(&mut self, element: &Element) {
        let Some((frontend, target)) = shortcut(element) else { return };
        let Some(frontends) = self.by_target.get_mut(&target) else { return };
        if let Some(elements) = frontends.get_mut(&frontend) {
            *elements -= 1;
            if *elements == 0 {
                frontends.remove(&frontend);
            }
        }
        if frontends.is_empty() {
            self.by_target.remove(&target);
        }
    }

    /// The front ends that lead to a virtual server.
    pub(super) fn to(&self, target: &VirtualAddress) -> impl Iterator<Item = VirtualAddress> + '_ {
        self.by_target.get(target).into_iter().flat_map(|frontends| frontends.keys().copied())
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
