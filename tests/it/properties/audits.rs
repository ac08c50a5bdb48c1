//! Virtual servers are read again a part at a time: often enough, and seldom enough.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube_ipvs_core::engine::Work;
use kube_ipvs_core::model::{Settings, VirtualAddress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::cases;
use super::convergence::{Servers, check, ipvs_mischief, pick};
use super::settings::settings;
use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::ModelKernel;
use crate::common::objects::{node, only_services, only_slices, service, service_cidrs, slice};
use crate::common::random::{Objects, events};

/// How long a round takes where reading costs little.
const ROUND: Duration = Duration::from_secs(30);
/// What is waited for beside: what is retried, and connections that are counted.
const MORE: Duration = Duration::from_secs(20);
/// Longer than any of these tests take: what they see is no audit of everything.
const NEVER: Option<Duration> = Some(Duration::from_secs(1_000_000));
/// Reading takes one part of a processor's time of so many.
const SHARE: u32 = 100;

/// An agent with so many virtual servers, each of one real server.
fn agent_with(virtual_servers: u16) -> ModelAgent {
    let mut agent = ModelAgent::auditing(&Settings::for_node("n1"), ModelKernel::default(), NEVER);
    let mut web = service("default/web").cluster_ip("10.96.0.10");
    let mut pods = slice("default/web-a");
    for port in 1..=virtual_servers {
        let name = format!("p{port}");
        web = web.port(&name, port);
        pods = pods.port(&name, port);
    }
    agent
        .deliver(node("n1").internal_ip("192.0.2.1"))
        .deliver(service_cidrs(&["10.96.0.0/16"]))
        .deliver(only_services([web]))
        .deliver(only_slices([pods.ready("10.244.2.2", "n2")]));
    agent.run_for(Duration::from_millis(100));
    agent
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn drift_in_ipvs_is_repaired_within_an_audit(
        settings in settings(),
        objects in events(0..20),
        deeds in vec((0..40_000_u64, ipvs_mischief()), 1..6),
        unreadable in vec((any::<Index>(), 1..4_usize), 0..2),
    ) {
        let mut agent = ModelAgent::auditing(&settings, ModelKernel::default(), NEVER);
        for event in Objects::after(&objects).listed() {
            agent.deliver(event);
        }
        agent.run_for(Duration::from_millis(100));
        check(&agent, &Servers::new())?;
        for (at, times) in unreadable {
            let address = pick(at, agent.kernel.state.servers.keys().copied());
            agent.kernel.unreadable.extend(address.map(|address| (address, times)));
        }
        for (after, deed) in deeds {
            agent.run_for(Duration::from_millis(after));
            deed.apply(&mut agent.kernel.state);
            let done = agent.run_for(ROUND + MORE);
            prop_assert!(!done.iter().any(|(_, work)| matches!(work, Work::Observe)));
            check(&agent, &Servers::new())?;
        }
    }

    #[test]
    fn each_virtual_server_is_read_often_enough_and_none_too_often(
        count in 1..700_u16,
        reading in (1..3_000_u64).prop_map(Duration::from_micros),
    ) {
        let mut agent = agent_with(count);
        prop_assert_eq!(agent.kernel.state.servers.len(), usize::from(count));
        agent.kernel.reading = reading;
        let all = reading * u32::from(count) * SHARE;
        let period = ROUND.max(all);
        // One that has just been made may have to wait for the next round.
        agent.run_for(2 * period);
        let mut last: BTreeMap<VirtualAddress, Instant> =
            agent.kernel.state.servers.keys().map(|address| (*address, agent.kernel.now)).collect();
        let mut free = agent.kernel.now;
        for (at, work) in agent.run_for(4 * period) {
            let Work::ObservePools(part) = work else {
                prop_assert!(false, "{work:?}");
                continue;
            };
            prop_assert!(at >= free, "more than a hundredth");
            let took = reading * u32::try_from(part.len()).unwrap();
            free = at + took * SHARE;
            for address in part {
                let before = last.insert(address, at).unwrap();
                // A part may be put off by what it cost itself, or the one before.
                prop_assert!(at - before <= period + ROUND / 10 + 2 * took * SHARE);
            }
        }
        let end = agent.kernel.now;
        prop_assert!(last.values().all(|at| end - *at <= 2 * period), "one was forgotten");
        check(&agent, &Servers::new())?;
    }
}

#[test]
fn changes_do_not_wait_for_an_audit() {
    let mut agent = agent_with(3000);
    // So slow that a part is always due.
    agent.kernel.reading = Duration::ZERO;
    let mut audits = 0;
    for round in 0..20 {
        agent.deliver(
            slice("default/web-b").port("p1", 1).ready(&format!("10.244.3.{round}"), "n3"),
        );
        let done = agent.run_for(Duration::from_secs(3));
        let is_change = |work: &Work| matches!(work, Work::Apply(_));
        let first = done.iter().position(|(_, work)| is_change(work));
        assert_eq!(first, Some(0), "round {round}");
        audits += done.len();
    }
    assert!(audits > 20 + 3000 / 128, "{audits}");
}
