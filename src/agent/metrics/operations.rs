//! Operations by kind and result.

use std::iter;

use kube_ipvs_core::model::Family;
use kube_ipvs_core::plan::{
    Failure, FailureKind, FilterOperation, FlowOperation, Operation, Outcome, RouteOperation,
    ServerOperation,
};
use rustc_hash::FxHashMap;

/// Values of label `kind`.
const KINDS: [&str; 16] = [
    "create_tables",
    "delete_tables",
    "add_element",
    "delete_element",
    "add_service",
    "set_service",
    "delete_service",
    "add_real_server",
    "set_real_server",
    "delete_real_server",
    "create_device",
    "delete_device",
    "add_route",
    "delete_route",
    "delete_flows",
    "delete_earlier",
];

/// Values of label `result`.
const RESULTS: [&str; 4] = ["ok", "drift", "unknown", "refused"];

/// Returns the labels of all series.
pub(super) fn labels() -> impl Iterator<Item = [&'static str; 2]> {
    KINDS.into_iter().flat_map(|kind| RESULTS.map(|result| [kind, result]))
}

/// Counts operations by their labels. A missing outcome counts as unknown.
pub(super) fn counts(
    operations: &[Operation],
    outcomes: &[Outcome],
) -> FxHashMap<[&'static str; 2], u64> {
    let mut counts = FxHashMap::default();
    let results = outcomes.iter().map(Some).chain(iter::repeat(None));
    for (operation, outcome) in operations.iter().zip(results) {
        *counts.entry([kind(operation), result(outcome)]).or_default() += 1;
    }
    counts
}

fn kind(operation: &Operation) -> &'static str {
    match operation {
        Operation::Filter(FilterOperation::CreateTables) => "create_tables",
        Operation::Filter(FilterOperation::DeleteTables) => "delete_tables",
        Operation::Filter(FilterOperation::Add(_)) => "add_element",
        Operation::Filter(FilterOperation::Delete(_)) => "delete_element",
        Operation::Server(ServerOperation::Add(_)) => "add_service",
        Operation::Server(ServerOperation::Set(_)) => "set_service",
        Operation::Server(ServerOperation::Delete(_)) => "delete_service",
        Operation::Server(ServerOperation::AddReal(..)) => "add_real_server",
        Operation::Server(ServerOperation::SetReal(..)) => "set_real_server",
        Operation::Server(ServerOperation::DeleteReal(..)) => "delete_real_server",
        Operation::Route(RouteOperation::CreateDevice) => "create_device",
        Operation::Route(RouteOperation::DeleteDevice) => "delete_device",
        Operation::Route(RouteOperation::Add(_)) => "add_route",
        Operation::Route(RouteOperation::Delete(_)) => "delete_route",
        Operation::Flow(_) => "delete_flows",
        Operation::DeleteEarlier => "delete_earlier",
    }
}

fn result(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Ok(())) => "ok",
        Some(Err(Failure { kind: FailureKind::Drift, .. })) => "drift",
        Some(Err(Failure { kind: FailureKind::Unknown, .. })) | None => "unknown",
        Some(Err(Failure { kind: FailureKind::Refused | FailureKind::NoScheduler, .. })) => {
            "refused"
        }
    }
}

/// Returns the families of operations. Operations for both families count for both.
pub(super) fn touched(operations: &[Operation]) -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(|wanted| {
        operations.iter().any(|operation| family(operation).is_none_or(|family| family == *wanted))
    })
}

fn family(operation: &Operation) -> Option<Family> {
    match operation {
        Operation::Filter(FilterOperation::CreateTables | FilterOperation::DeleteTables)
        | Operation::Route(RouteOperation::CreateDevice | RouteOperation::DeleteDevice)
        | Operation::DeleteEarlier => None,
        Operation::Filter(FilterOperation::Add(element) | FilterOperation::Delete(element)) => {
            element.family()
        }
        Operation::Server(operation) => Some(operation.address().family()),
        Operation::Route(RouteOperation::Add(route) | RouteOperation::Delete(route)) => {
            Some(route.family())
        }
        Operation::Flow(FlowOperation { frontend, .. }) => Some(frontend.family()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kube_ipvs_core::model::{
        AddressSet, Backend, Element, Route, Scheduler, VirtualAddress, VirtualServer,
    };

    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        let address: VirtualAddress = "10.96.0.1:443/tcp".parse().unwrap();
        let element = Element::Address(AddressSet::ClusterIps, address.ip);
        let backend = Backend { address: address.ip, port: 1, weight: 1, local: false };
        let scheduler = Scheduler::Rr;
        let server = VirtualServer::new(address, scheduler);
        let route = Route { prefix: address.ip.into(), source: None };
        let operations: [Operation; KINDS.len()] = [
            FilterOperation::CreateTables.into(),
            FilterOperation::DeleteTables.into(),
            FilterOperation::Add(element).into(),
            FilterOperation::Delete(element).into(),
            ServerOperation::Add(server).into(),
            ServerOperation::Set(server).into(),
            ServerOperation::Delete(address).into(),
            ServerOperation::AddReal(address, backend, 0).into(),
            ServerOperation::SetReal(address, backend, 0).into(),
            ServerOperation::DeleteReal(address, backend).into(),
            RouteOperation::CreateDevice.into(),
            RouteOperation::DeleteDevice.into(),
            RouteOperation::Add(route).into(),
            RouteOperation::Delete(route).into(),
            FlowOperation { frontend: address, backend: None, carrier: None }.into(),
            Operation::DeleteEarlier,
        ];
        for (place, operation) in operations.iter().enumerate() {
            assert_eq!(kind(operation), KINDS[place], "{operation}");
            let verb = match operation.effect() {
                kube_ipvs_core::plan::Effect::Adds => ["add_", "create_"],
                kube_ipvs_core::plan::Effect::Changes => ["set_"; 2],
                kube_ipvs_core::plan::Effect::Removes => ["delete_"; 2],
            };
            let name = kind(operation);
            assert!(verb.iter().any(|verb| name.starts_with(verb)), "{operation} is no {name}");
        }
    }
}
