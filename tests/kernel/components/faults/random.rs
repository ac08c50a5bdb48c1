//! Random faults and changes from a seed, several at a time. One seed alone:
//! `ON_KERNEL_ENV=FAULT_SEED FAULT_SEED=7 hack/kernel-test faults_by_chance`.

use std::time::Duration;

use kube_ipvs_core::model::Event;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::io::Errno;

use super::harness::FaultHarness;
use super::kind::Kind;
use super::listed::ERRORS;
use super::script::{Fault, How};
use crate::common::random::object_event;

/// Seeds that are always tried.
const SEEDS: std::ops::Range<u64> = 0..6;
/// Changes of a seed.
const CHANGES: usize = 16;

const KINDS: [Kind; 24] = [
    Kind::Family,
    Kind::NewService,
    Kind::SetService,
    Kind::DeleteService,
    Kind::GetService,
    Kind::NewDest,
    Kind::SetDest,
    Kind::DeleteDest,
    Kind::ListServices,
    Kind::ListDests,
    Kind::Transaction,
    Kind::Ruleset,
    Kind::NewElement,
    Kind::DeleteElement,
    Kind::ListRuleset,
    Kind::ListElements,
    Kind::NewLink,
    Kind::GetLink,
    Kind::NewRoute,
    Kind::DeleteRoute,
    Kind::ListRoutes,
    Kind::DeleteRule,
    Kind::ListRules,
    Kind::ListFlows,
];

fn how() -> impl Strategy<Value = How> {
    let error = || select(&ERRORS[..]);
    prop_oneof![
        4 => error().prop_map(How::Refused),
        2 => error().prop_map(How::Belied),
        1 => error().prop_map(How::Unsent),
        1 => select(vec![Errno::INTR, Errno::IO, Errno::NOMEM]).prop_map(How::Unheard),
        1 => Just(How::Overrun),
        1 => Just(How::Unanswered),
        1 => Just(How::Cut),
        1 => Just(How::Flagged),
        1 => Just(How::Gap),
        1 => Just(How::Doubled),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    (select(&KINDS[..]), how(), 1..6_usize)
        .prop_map(|(kind, how, times)| Fault::lasting(kind, how).times(times))
        .prop_filter("only an audit detects it", |fault| !fault.is_plausible_lie())
}

/// What happens between two looks at the kernel.
#[derive(Debug)]
struct Happening {
    faults: Vec<Fault>,
    events: Vec<Event>,
    tampering: bool,
    wait: Duration,
}

fn happening() -> impl Strategy<Value = Happening> {
    let faults = proptest::collection::vec(fault(), 0..4);
    let events = proptest::collection::vec(object_event(), 1..4);
    (faults, events, any::<bool>(), 0..5_u64).prop_map(|(faults, events, tampering, seconds)| {
        Happening { faults, events, tampering, wait: Duration::from_secs(seconds) }
    })
}

pub(super) fn faults_by_chance(harness: &mut FaultHarness) {
    // Lists are replaced too, without them.
    harness.forget_others();
    let one = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in one.map_or(SEEDS, |seed| seed..seed + 1) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        for change in 0..CHANGES {
            let next = happening().new_tree(&mut runner).unwrap().current();
            harness.context = format!("FAULT_SEED={seed}, change {change}: ");
            harness.arm(next.faults);
            harness.deliver(next.events);
            if next.tampering {
                harness.engine.handle_drift(harness.now);
            }
            harness.now += next.wait;
            harness.work();
            if change % 4 == 3 {
                harness.heal();
            }
        }
        harness.heal();
        harness.assert_saved();
    }
}
