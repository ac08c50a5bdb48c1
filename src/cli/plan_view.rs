//! The JSON and text of `plan`.

use std::collections::BTreeMap;
use std::fmt;

use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{EndpointName, ServiceKey, VirtualAddress};
use kube_ipvs_core::plan::{Effect, FilterOperation, Operation, RouteOperation};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::agent::api::NameView;

/// A plan as `plan -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PlanView {
    /// In order.
    pub(super) operations: Vec<OperationView>,
    pub(super) summary: PlanSummary,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct OperationView {
    /// `add`, `change` or `remove`.
    effect: String,
    /// What the operation is on, as in [`PlanSummary`].
    kind: String,
    /// The equivalent command line.
    command: String,
    /// `namespace/name`, of operations on IPVS.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(flatten)]
    name: NameView,
}

/// The number of operations by effect and kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PlanSummary(BTreeMap<String, BTreeMap<String, usize>>);

impl PlanView {
    pub(super) fn new(operations: &[Operation], engine: &Engine) -> Self {
        let services = engine.desired().services();
        let owners: FxHashMap<_, _> = services
            .flat_map(|(key, service)| service.pools.iter().map(move |it| (it.server.address, key)))
            .collect();
        let view = |operation: &Operation| OperationView::new(operation, engine, &owners);
        let operations: Vec<_> = operations.iter().map(view).collect();
        let effects = [Effect::Adds, Effect::Changes, Effect::Removes];
        let mut counts = BTreeMap::from(effects.map(|it| (effect(it).to_owned(), BTreeMap::new())));
        for OperationView { effect, kind, .. } in &operations {
            *counts.entry(effect.clone()).or_default().entry(kind.clone()).or_default() += 1;
        }
        Self { operations, summary: PlanSummary(counts) }
    }
}

impl OperationView {
    fn new(
        operation: &Operation,
        engine: &Engine,
        owners: &FxHashMap<VirtualAddress, &ServiceKey>,
    ) -> Self {
        let owner = operation.as_server().and_then(|it| owners.get(&it.address()).copied());
        let slices = owner.into_iter().flat_map(|key| engine.state().slices(key));
        let name = operation.real_server();
        let name = name.and_then(|(_, backend)| EndpointName::find(slices, backend.socket()));
        Self {
            effect: effect(operation.effect()).to_owned(),
            kind: kind(operation).to_owned(),
            command: operation.to_string(),
            service: owner.map(ToString::to_string),
            name: name.unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for OperationView {
    /// Formats the command with the sign of its effect. The pod follows as a shell's comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            [Effect::Adds, Effect::Changes].into_iter().find(|it| effect(*it) == self.effect);
        write!(f, "{} {}", sign.unwrap_or(Effect::Removes), self.command)?;
        match (&self.name.pod, &self.name.node) {
            (Some(pod), Some(node)) => write!(f, " # {pod} on {node}"),
            (Some(pod), None) => write!(f, " # {pod}"),
            (None, _) => Ok(()),
        }
    }
}

impl fmt::Display for PlanSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().filter(|(_, counts)| !counts.is_empty());
        let parts = parts.map(|(effect, counts)| {
            let count = |(kind, count): (&String, &usize)| {
                format!("{count} {kind}{}", if *count == 1 { "" } else { "s" })
            };
            let counts: Vec<_> = counts.iter().map(count).collect();
            format!("{} to {effect}", counts.join(", "))
        });
        let parts: Vec<_> = parts.collect();
        f.write_str(if parts.is_empty() { "nothing to change" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

/// The word for an effect in JSON.
pub(super) fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Adds => "add",
        Effect::Changes => "change",
        Effect::Removes => "remove",
    }
}

/// Returns what an operation is on; an `s` makes the plural.
fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Filter(FilterOperation::CreateTables | FilterOperation::DeleteTables) => "table",
        Operation::Filter(FilterOperation::Add(_) | FilterOperation::Delete(_)) => "set element",
        Operation::Server(_) if operation.real_server().is_some() => "real server",
        Operation::Server(_) => "virtual server",
        Operation::Route(RouteOperation::CreateDevice | RouteOperation::DeleteDevice) => "device",
        Operation::Route(RouteOperation::Add(_) | RouteOperation::Delete(_)) => "route",
        Operation::Flow(_) => "flow",
        Operation::DeleteEarlier => "earlier layout",
    }
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::{Backend, Settings};
    use kube_ipvs_core::plan::ServerOperation;

    use super::*;

    #[test]
    fn a_plan_is_summed_up_by_effect_and_kind() {
        let engine = Engine::new(&Settings::for_node("n1"), None);
        let server: VirtualAddress = "10.96.0.1:80".parse().expect("an address");
        let ip = "10.244.1.5".parse().expect("an address");
        let backend = Backend { address: ip, port: 8080, weight: 1, local: false };
        let add = ServerOperation::AddReal(server, backend, 0);
        let operations = [add, add, ServerOperation::SetReal(server, backend, 0)];
        let operations = operations.map(Operation::from);
        let view = PlanView::new(&operations, &engine);
        assert_eq!(view.summary.to_string(), "2 real servers to add; 1 real server to change");
        assert_eq!(PlanView::new(&[], &engine).summary.to_string(), "nothing to change");
        let lines: Vec<_> = view.operations.iter().map(ToString::to_string).collect();
        for (line, operation) in lines.iter().zip(&operations) {
            assert_eq!(*line, format!("{} {operation}", operation.effect()));
        }
        let name = NameView { pod: Some("web-0".to_owned()), node: None };
        let named = OperationView { name, ..view.operations[0].clone() };
        assert!(named.to_string().ends_with("-m -w 1 # web-0"), "{named}");
        let json = serde_json::to_value(&view).expect("JSON");
        assert_eq!(json["summary"]["add"]["real server"], 2, "{json}");
        assert_eq!(json["operations"][2]["effect"], "change", "{json}");
    }
}
