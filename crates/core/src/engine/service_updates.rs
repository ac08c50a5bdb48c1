//! Changes of Services that need no kernel operation: health checks and refusals.

use std::collections::BTreeMap;

use super::Replacement;
use crate::model::{HealthCheck, Refusal, ServiceKey};
use crate::plan::Ejection;
use crate::state::Trigger;

/// Changes of Services that need no kernel operation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceUpdates {
    /// The number of changes of Services' desired state.
    pub updates: usize,
    /// Changed health checks; `None` for a removed one.
    pub health_checks: BTreeMap<ServiceKey, Option<HealthCheck>>,
    /// New refusals of requested front ends.
    pub refusals: BTreeMap<ServiceKey, Vec<Refusal>>,
    /// New reasons why options of Services have no effect.
    pub ignored_options: BTreeMap<ServiceKey, Vec<String>>,
    /// Endpoints that do not answer, and what became of them.
    pub ejections: Vec<Ejection>,
    /// The endpoint changes that have reached the kernel.
    pub programmed: Vec<Trigger>,
}

impl ServiceUpdates {
    /// Returns whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Records the changes of a replacement. The cost is proportional to the differences.
    pub(super) fn note(&mut self, replacement: &Replacement) {
        let Replacement { service, old, new } = replacement;
        self.updates += 1;
        if old.health_check != new.health_check {
            self.health_checks.insert(service.clone(), new.health_check);
        }
        let ignored = new.ignored_options.iter();
        let ignored: Vec<_> =
            ignored.filter(|it| !old.ignored_options.contains(it)).cloned().collect();
        if !ignored.is_empty() {
            self.ignored_options.insert(service.clone(), ignored);
        }
        if old.refusals != new.refusals {
            let is_new = |refusal: &&Refusal| old.refusal(&refusal.address) != Some(*refusal);
            let refusals: Vec<_> = new.refusals.iter().filter(is_new).cloned().collect();
            if !refusals.is_empty() {
                self.refusals.insert(service.clone(), refusals);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{Engine, ServiceUpdates};
    use crate::model::{
        Change, Endpoint, EndpointPort, EndpointSlice, Event, Family, Node, Protocol, Service,
        ServiceKey, ServicePort, Settings, Shared, SliceKey,
    };
    use crate::plan::{Failure, FailureKind, Operation, ServerOperation};
    use crate::testing::EmptyKernel;

    const NONE: [i64; 0] = [];

    fn web() -> Service {
        let port =
            ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        Service {
            cluster_ips: ["10.96.0.10".parse().expect("address")].into(),
            ports: [port].into(),
            ..Service::named(ServiceKey::new("default", "web"))
        }
    }

    /// Returns a slice with `endpoints` endpoints and this trigger time.
    fn slice(endpoints: u8, triggered: i64) -> EndpointSlice {
        let endpoint = |number| Endpoint {
            address: [10, 244, 2, number].into(),
            ready: true,
            serving: true,
            terminating: false,
            weight: 1,
            topology: Shared::default(),
        };
        EndpointSlice {
            key: SliceKey::new("default", "web-1"),
            service: ServiceKey::new("default", "web"),
            family: Family::V4,
            ports: [EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }]
                .into(),
            endpoints: (0..endpoints).map(endpoint).collect(),
            triggered: Some(triggered),
        }
    }

    /// Returns an engine with complete lists; the slice was written at time 1.
    fn engine() -> Engine {
        let mut engine = Engine::new(&Settings::for_node("n1"), None);
        engine.handle_event(Event::Service(Change::Replace(vec![web()])));
        engine.handle_event(Event::Slice(Change::Replace(vec![slice(1, 1)])));
        engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
        engine.handle_event(Event::Node(None));
        engine
    }

    /// Carries out all tasks; with `refuses`, the kernel rejects real servers. Returns the updates.
    fn work(engine: &mut Engine, now: Instant, refuses: bool) -> ServiceUpdates {
        let outcome = |operation: &Operation| match operation {
            Operation::Server(ServerOperation::AddReal(..)) if refuses => {
                Err(Failure { kind: FailureKind::Refused, message: String::new() })
            }
            _ => Ok(()),
        };
        let outcomes = |operations: &[Operation]| operations.iter().map(outcome).collect();
        let mut kernel = EmptyKernel::new(now, outcomes);
        kernel.listening = vec!["0.0.0.0:80".parse().expect("address")];
        while let Some(work) = engine.next_work(&mut kernel) {
            engine.carry_out(&work, &mut kernel).expect("all is read");
        }
        engine.take_updates()
    }

    /// Returns the trigger times that reach the kernel.
    fn programmed(engine: &mut Engine, now: Instant, refuses: bool) -> Vec<i64> {
        work(engine, now, refuses).programmed.into_iter().map(|trigger| trigger.at).collect()
    }

    #[test]
    fn changes_are_told_once_they_are_in_the_kernel() {
        let (mut engine, now) = (engine(), Instant::now());
        let apply = |engine: &mut Engine, slice| {
            engine.handle_event(Event::Slice(Change::Apply(slice)));
        };
        assert_eq!(programmed(&mut engine, now, false), NONE, "the first list is no change");
        apply(&mut engine, slice(2, 5));
        apply(&mut engine, slice(3, 6));
        assert_eq!(programmed(&mut engine, now, false), [5, 6]);
        assert_eq!(programmed(&mut engine, now, false), NONE);
        apply(&mut engine, slice(3, 7));
        assert_eq!(programmed(&mut engine, now, false), NONE, "the endpoints are the same");

        apply(&mut engine, slice(4, 8));
        assert_eq!(programmed(&mut engine, now, true), NONE);
        assert_eq!(programmed(&mut engine, now + Duration::from_secs(60), false), [8]);
    }

    #[test]
    fn what_a_front_end_is_refused_for_is_news_once() {
        let mut engine = engine();
        let now = Instant::now();
        work(&mut engine, now, false);
        let asks = Service { external_ips: ["10.0.0.1".parse().expect("address")].into(), ..web() };
        let node = Node {
            name: "n1".into(),
            internal_ips: asks.external_ips.clone(),
            pod_cidrs: [].into(),
            zone: None,
            labels: [].into(),
            eligible: true,
        };
        engine.handle_event(Event::Service(Change::Apply(asks)));
        let updates = work(&mut engine, now, false);
        assert!(updates.refusals.is_empty(), "nobody has the address yet");
        engine.handle_event(Event::Node(Some(node.clone())));
        let refusals = work(&mut engine, now, false).refusals;
        assert_eq!(refusals.values().map(Vec::len).collect::<Vec<_>>(), [1]);
        engine.handle_event(Event::Node(Some(Node { eligible: false, ..node })));
        assert!(work(&mut engine, now, false).is_empty());
    }
}
