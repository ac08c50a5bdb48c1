//! Operations by kind and result.

use kube_ipvs_core::model::Family;
use kube_ipvs_core::plan::{
    Failure, FailureKind, FilterOperation, FlowOperation, Operation, Outcome, RouteOperation,
    ServerOperation,
};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::register;

/// Values of label `kind`, indexed by [`kind`].
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

/// Values of label `result`, indexed by [`result`].
const RESULTS: [&str; 4] = ["ok", "drift", "unknown", "refused"];

pub(super) struct Operations([[IntCounter; RESULTS.len()]; KINDS.len()]);

impl Operations {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts =
            Opts::new("kube_ipvs_operations_total", "Operations on the kernel and their results");
        let all = register(registry, IntCounterVec::new(opts, &["kind", "result"])?)?;
        Ok(Self(KINDS.map(|kind| RESULTS.map(|result| all.with_label_values(&[kind, result])))))
    }

    /// Counts operations. A missing outcome counts as unknown.
    pub(super) fn add(&self, operations: &[Operation], outcomes: &[Outcome]) {
        let mut counts = [[0; RESULTS.len()]; KINDS.len()];
        let results = outcomes.iter().map(Some).chain(std::iter::repeat(None));
        for (operation, outcome) in operations.iter().zip(results) {
            let of_kind = counts.get_mut(kind(operation));
            if let Some(count) = of_kind.and_then(|counts| counts.get_mut(result(outcome))) {
                *count += 1;
            }
        }
        for (counter, count) in self.0.iter().flatten().zip(counts.into_iter().flatten()) {
            counter.inc_by(count);
        }
    }
}

fn kind(operation: &Operation) -> usize {
    match operation {
        Operation::Filter(FilterOperation::CreateTables) => 0,
        Operation::Filter(FilterOperation::DeleteTables) => 1,
        Operation::Filter(FilterOperation::Add(_)) => 2,
        Operation::Filter(FilterOperation::Delete(_)) => 3,
        Operation::Server(ServerOperation::Add(_)) => 4,
        Operation::Server(ServerOperation::Set(_)) => 5,
        Operation::Server(ServerOperation::Delete(_)) => 6,
        Operation::Server(ServerOperation::AddReal(..)) => 7,
        Operation::Server(ServerOperation::SetReal(..)) => 8,
        Operation::Server(ServerOperation::DeleteReal(..)) => 9,
        Operation::Route(RouteOperation::CreateDevice) => 10,
        Operation::Route(RouteOperation::DeleteDevice) => 11,
        Operation::Route(RouteOperation::Add(_)) => 12,
        Operation::Route(RouteOperation::Delete(_)) => 13,
        Operation::Flow(_) => 14,
        Operation::DeleteEarlier => 15,
    }
}

fn result(outcome: Option<&Outcome>) -> usize {
    match outcome {
        Some(Ok(())) => 0,
        Some(Err(Failure { kind: FailureKind::Drift, .. })) => 1,
        Some(Err(Failure { kind: FailureKind::Unknown, .. })) | None => 2,
        Some(Err(Failure { kind: FailureKind::Refused, .. })) => 3,
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
        Operation::Server(ServerOperation::Add(server) | ServerOperation::Set(server)) => {
            Some(server.address.family())
        }
        Operation::Server(
            ServerOperation::Delete(address)
            | ServerOperation::AddReal(address, _)
            | ServerOperation::SetReal(address, _)
            | ServerOperation::DeleteReal(address, _),
        ) => Some(address.family()),
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
        let server = VirtualServer { address, scheduler, flags: 0, affinity_seconds: None };
        let route = Route { prefix: address.ip.into(), source: None };
        let operations: [Operation; KINDS.len()] = [
            FilterOperation::CreateTables.into(),
            FilterOperation::DeleteTables.into(),
            FilterOperation::Add(element).into(),
            FilterOperation::Delete(element).into(),
            ServerOperation::Add(server).into(),
            ServerOperation::Set(server).into(),
            ServerOperation::Delete(address).into(),
            ServerOperation::AddReal(address, backend).into(),
            ServerOperation::SetReal(address, backend).into(),
            ServerOperation::DeleteReal(address, backend).into(),
            RouteOperation::CreateDevice.into(),
            RouteOperation::DeleteDevice.into(),
            RouteOperation::Add(route).into(),
            RouteOperation::Delete(route).into(),
            FlowOperation { frontend: address, backend: None, carrier: None }.into(),
            Operation::DeleteEarlier,
        ];
        for (place, operation) in operations.iter().enumerate() {
            assert_eq!(kind(operation), place, "{operation}");
            let verb = match operation.effect() {
                kube_ipvs_core::plan::Effect::Adds => ["add_", "create_"],
                kube_ipvs_core::plan::Effect::Changes => ["set_"; 2],
                kube_ipvs_core::plan::Effect::Removes => ["delete_"; 2],
            };
            let name = KINDS[kind(operation)];
            assert!(verb.iter().any(|verb| name.starts_with(verb)), "{operation} is no {name}");
        }
    }
}
