//! How pods of the other node use this node's front ends: no proxy runs on theirs.

use std::io;
use std::sync::Arc;

use kube_ipvs_core::model::Family;

use crate::context::TestContext;
use crate::lab::Host::{N1, N2, P3, P4};
use crate::lab::{Namespace, gateway};

/// Where service addresses lie.
const SERVICE_ADDRESSES: [&str; 10] = [
    "10.96.0.0/12",
    "250.96.0.0/12",
    "242.96.0.0/12",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fd00:96::/108",
    "fc00:96::/108",
    "fc80:96::/108",
    "2001:db8:51::/64",
    "2001:db8:113::/64",
];
/// A routing table for answers.
const TABLE: &str = "99";

/// Routes of the other node, and of a pod there, that lead over this one; taken back in the end.
pub(super) struct Detour {
    node: Arc<Namespace>,
    neighbour: Arc<Namespace>,
}

impl Detour {
    /// Leads what `P3` sends to service addresses to `N1`, and back there what its neighbours
    /// answer: by the short way, `P3` would see the endpoint and not the Service.
    pub(super) fn new(t: &TestContext<'_>) -> io::Result<Self> {
        let namespace = |host| Arc::clone(t.host(host));
        let detour = Self { node: namespace(N2), neighbour: namespace(P4) };
        detour.change("add")?;
        Ok(detour)
    }

    fn change(&self, verb: &str) -> io::Result<()> {
        self.node.ip(&routes(verb))?;
        for family in Family::BOTH {
            let (option, client) = (option(family), P3.ip(family).to_string());
            // From the pod beside it, and from the node's own network.
            for (selector, value) in [("iif", "cni0"), ("from", &N2.ip(family).to_string())] {
                let rule = [option, "rule", verb, "to", &client, selector, value, "lookup", TABLE];
                self.node.read("ip", &rule)?;
            }
            let by_the_node = format!("route {verb} {client} via {}\n", gateway(2, family));
            self.neighbour.ip(&by_the_node)?;
        }
        Ok(())
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        let _ = self.change("delete");
    }
}

fn routes(verb: &str) -> String {
    let service_addresses = SERVICE_ADDRESSES.map(|range| {
        let family = if range.contains(':') { Family::V6 } else { Family::V4 };
        format!("route {verb} {range} via {}\n", N1.ip(family))
    });
    let answers = [("0.0.0.0/0", Family::V4), ("::/0", Family::V6)]
        .map(|(all, family)| format!("route {verb} {all} via {} table {TABLE}\n", N1.ip(family)));
    service_addresses.concat() + &answers.concat()
}

fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}
