//! What an engine reports of its work: changes that reached the kernel, and refused front ends.

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::{Engine, ServiceUpdates};
use kube_ipvs_core::model::{Event, Scheduler, Settings};
use kube_ipvs_core::plan::{Failure, FailureKind, Operation, ServerOperation};
use kube_ipvs_core::testing::{EmptyKernel, refuse};
use serde_json::json;

use crate::common::objects::{
    ServiceBuilder, SliceBuilder, node, only_services, only_slices, service, service_cidrs, slice,
};

const NONE: [i64; 0] = [];

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("http", 80)
}

/// Returns a slice with `endpoints` endpoints and this trigger time.
fn written(endpoints: u8, triggered: i64) -> SliceBuilder {
    let slice = slice("default/web-1").port("http", 8080).triggered(triggered);
    (0..endpoints).fold(slice, |slice, number| slice.ready(&format!("10.244.2.{number}"), ""))
}

/// Returns an engine with complete lists; the slice was written at time 1.
fn engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    engine.handle_event(only_services([web()]));
    engine.handle_event(only_slices([written(1, 1)]));
    engine.handle_event(service_cidrs(&[]));
    engine.handle_event(Event::Node(None));
    engine
}

/// Carries out all tasks; with `refuses`, the kernel rejects real servers. Returns the updates.
fn work(engine: &mut Engine, now: Instant, refuses: bool) -> ServiceUpdates {
    let is_refused = |operation: &Operation| {
        refuses && matches!(operation, Operation::Server(ServerOperation::AddReal(..)))
    };
    let mut kernel = EmptyKernel::new(now, |operations: &[_]| refuse(operations, is_refused));
    kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    engine.take_updates()
}

/// Returns the trigger times that reach the kernel.
fn programmed(engine: &mut Engine, now: Instant, refuses: bool) -> Vec<i64> {
    work(engine, now, refuses).programmed.into_iter().map(|trigger| trigger.at).collect()
}

#[test]
fn a_change_is_reported_once_it_is_in_the_kernel() {
    let (mut engine, now) = (engine(), Instant::now());
    assert_eq!(programmed(&mut engine, now, false), NONE, "the first list is no change");
    engine.handle_event(written(2, 5).into());
    engine.handle_event(written(3, 6).into());
    assert_eq!(programmed(&mut engine, now, false), [5, 6]);
    assert_eq!(programmed(&mut engine, now, false), NONE);
    engine.handle_event(written(3, 7).into());
    assert_eq!(programmed(&mut engine, now, false), NONE, "the endpoints are the same");

    engine.handle_event(written(4, 8).into());
    assert_eq!(programmed(&mut engine, now, true), NONE);
    assert_eq!(programmed(&mut engine, now + Duration::from_secs(60), false), [8]);
}

#[test]
fn a_refusal_is_reported_once() {
    let mut engine = engine();
    let now = Instant::now();
    work(&mut engine, now, false);
    engine.handle_event(web().external_ip("10.0.0.1").into());
    let updates = work(&mut engine, now, false);
    assert!(updates.refusals.is_empty(), "no node has the address yet");
    let node = node("n1").internal_ip("10.0.0.1");
    engine.handle_event(node.clone().into());
    let refusals = work(&mut engine, now, false).refusals;
    assert_eq!(refusals.values().map(Vec::len).collect::<Vec<_>>(), [1]);
    let taints = json!([{"key": "ToBeDeletedByClusterAutoscaler"}]);
    engine.handle_event(node.spec("taints", taints).into());
    assert!(work(&mut engine, now, false).is_empty());
}

#[test]
fn a_scheduler_that_the_kernel_lacks_is_replaced() {
    let (mut engine, now) = (engine(), Instant::now());
    let chosen = |it: &Operation| match it {
        Operation::Server(ServerOperation::Add(server) | ServerOperation::Set(server)) => {
            Some(server.scheduler)
        }
        _ => None,
    };
    let work = |engine: &mut Engine| {
        let mut schedulers = Vec::new();
        let outcomes = |operations: &[Operation]| {
            schedulers.extend(operations.iter().filter_map(chosen));
            let outcome = |it: &Operation| match chosen(it) {
                Some(Scheduler::Mh) => {
                    let message = "no module".to_owned();
                    Err(Failure { kind: FailureKind::NoScheduler, message })
                }
                _ => Ok(()),
            };
            operations.iter().map(outcome).collect()
        };
        let mut kernel = EmptyKernel::new(now, outcomes);
        while let Some(work) = engine.next_work(&mut kernel) {
            engine.carry_out(&work, &mut kernel).unwrap();
        }
        (schedulers, engine.take_updates().ignored_options)
    };
    let mh = || web().annotation("kube-ipvs.io/scheduler", "mh");
    engine.handle_event(mh().into());
    let (schedulers, ignored) = work(&mut engine);
    assert_eq!(schedulers, [Scheduler::Mh, Scheduler::Rr]);
    let reasons: Vec<_> = ignored.into_values().flatten().collect();
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert!(reason.starts_with("scheduler: the node's kernel has no scheduler mh, so rr serves"));
    assert_eq!(engine.failures(), 0, "nothing is retried");
    // It is known for other Services, too.
    let other = service("default/other").cluster_ip("10.96.0.11").port("http", 80);
    engine.handle_event(other.annotation("kube-ipvs.io/scheduler", "mh").into());
    engine.handle_event(slice("default/other-1").port("http", 80).ready("10.244.2.9", "").into());
    assert_eq!(work(&mut engine).0, [Scheduler::Rr]);
}
