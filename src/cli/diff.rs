//! `kubectl ipvs diff`: what the agents of a cluster do not have alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::api::{FrontendView, PoolView, ServiceView, StatusView};

/// Most nodes that a line names.
const MOST_NAMED: usize = 5;

/// What differs, as `kubectl ipvs diff -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct DiffView {
    /// Those that were compared.
    pub(super) nodes: Vec<String>,
    /// Sorted by Service.
    pub(super) differences: Vec<DifferenceView>,
    /// Nodes that are not in their desired state.
    failures: Vec<NodeFailures>,
}

/// Something that some nodes have and others do not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DifferenceView {
    /// `namespace/name`
    service: String,
    what: String,
    on: Vec<String>,
    not_on: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeFailures {
    node: String,
    /// When the kernel was last in the desired state; `null` if not since the agent started.
    last_sync: Option<String>,
    failures: Vec<String>,
}

/// The states of nodes, as they come.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    nodes: Vec<String>,
    /// By Service and by what it has: the nodes that have it, by number.
    facts: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
    failures: Vec<NodeFailures>,
}

impl Comparison {
    pub(super) fn add(&mut self, status: StatusView) {
        let number = self.nodes.len() as u32;
        for service in &status.services {
            let known = self.facts.entry(service.service.clone()).or_default();
            for fact in facts(service) {
                known.entry(fact).or_default().push(number);
            }
        }
        if !status.synced || !status.failures.is_empty() {
            let failures = status.failures.iter();
            let failures = failures.map(|it| format!("{}: {}", it.operation, it.message));
            self.failures.push(NodeFailures {
                node: status.node.clone(),
                last_sync: status.last_sync,
                failures: failures.collect(),
            });
        }
        self.nodes.push(status.node);
    }

    /// Returns what not all nodes have.
    pub(super) fn view(self) -> DiffView {
        let Self { nodes, facts, mut failures } = self;
        let mut differences = Vec::new();
        for (service, facts) in facts {
            for (what, having) in facts.into_iter().filter(|(_, it)| it.len() < nodes.len()) {
                let having: BTreeSet<_> = having.into_iter().collect();
                let (mut on, mut not_on) = (Vec::new(), Vec::new());
                for (number, node) in (0..).zip(&nodes) {
                    let side = if having.contains(&number) { &mut on } else { &mut not_on };
                    side.push(node.clone());
                }
                on.sort_unstable();
                not_on.sort_unstable();
                differences.push(DifferenceView { service: service.clone(), what, on, not_on });
            }
        }
        failures.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        DiffView { nodes, differences, failures }
    }
}

impl DiffView {
    /// Returns whether the nodes have all alike, and are in their desired state.
    pub(super) fn is_empty(&self) -> bool {
        self.differences.is_empty() && self.failures.is_empty()
    }

    /// Leaves out what did not differ in the same way before: a change that was under way.
    pub(super) fn lasting(mut self, before: &Self) -> Self {
        self.differences.retain(|it| before.differences.contains(it));
        self
    }
}

/// Returns what every node should have of a Service. Where a pool stands depends on the node.
fn facts(service: &ServiceView) -> BTreeSet<String> {
    let frontend = |it: &FrontendView| format!("{} front end {}", it.kind, it.address);
    let mut facts: BTreeSet<_> = service.frontends.iter().map(frontend).collect();
    for refusal in &service.refusals {
        facts.insert(format!("{} refused at {}", refusal.kind, refusal.address));
    }
    for pool in service.pools.iter().filter(|pool| pool.cluster_wide) {
        let port = port_of(service, pool);
        for backend in &pool.backends {
            facts.insert(format!("backend {}{port}", backend.socket()));
        }
    }
    facts
}

/// The Service port of a pool.
fn port_of(service: &ServiceView, pool: &PoolView) -> String {
    let leads =
        |it: &&FrontendView| [&it.targets.inside, &it.targets.outside].contains(&&pool.address);
    match service.frontends.iter().find(leads) {
        Some(frontend) if !frontend.port.is_empty() => format!(" of port {}", frontend.port),
        _ => String::new(),
    }
}

impl fmt::Display for DiffView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = None;
        for DifferenceView { service, what, on, not_on } in &self.differences {
            if last != Some(service) {
                writeln!(f, "{service}")?;
                last = Some(service);
            }
            let (side, nodes) = match not_on.len() <= on.len() {
                true => ("not on", not_on),
                false => ("only on", on),
            };
            writeln!(f, "  {what}: {side} {}", some(nodes))?;
        }
        for NodeFailures { node, last_sync, failures } in &self.failures {
            let since = last_sync.as_deref().unwrap_or("never since the agent started");
            writeln!(f, "node {node}: last in the desired state: {since}")?;
            for failure in failures {
                writeln!(f, "  failed  {failure}")?;
            }
        }
        match self.is_empty() {
            true => writeln!(f, "{} nodes are alike and in their desired state", self.nodes.len()),
            false => Ok(()),
        }
    }
}

fn some(nodes: &[String]) -> String {
    let named: Vec<_> = nodes.iter().take(MOST_NAMED).map(String::as_str).collect();
    match nodes.len().checked_sub(MOST_NAMED) {
        Some(more) if more > 0 => format!("{} and {more} more", named.join(", ")),
        _ => named.join(", "),
    }
}
