//! Every lasting fault by itself: each happens to a target of its own.

use std::time::Duration;

use rustix::io::Errno;

use super::cluster::{Step, TARGETS, Target};
use super::harness::FaultHarness;
use super::kind::Kind;
use super::script::{Fault, How};

/// What makes the engine send a request.
const CHANGES: [(Kind, Step); 10] = [
    (Kind::NewService, Step::Come),
    (Kind::SetService, Step::Stick),
    (Kind::DeleteService, Step::Go),
    (Kind::NewDest, Step::Grow),
    (Kind::SetDest, Step::Shrink),
    (Kind::DeleteDest, Step::Shrink),
    (Kind::NewElement, Step::Come),
    (Kind::DeleteElement, Step::Go),
    (Kind::NewRoute, Step::Come),
    (Kind::DeleteRoute, Step::Go),
];

/// One of each table, for faults that are of a whole send.
const SENDS: [(Kind, Step); 3] =
    [(Kind::NewDest, Step::Grow), (Kind::NewElement, Step::Come), (Kind::NewRoute, Step::Come)];

pub(super) const ERRORS: [Errno; 15] = [
    Errno::PERM,
    Errno::NOENT,
    Errno::SRCH,
    Errno::INTR,
    Errno::AGAIN,
    Errno::NOMEM,
    Errno::BUSY,
    Errno::EXIST,
    Errno::INVAL,
    Errno::NOSPC,
    Errno::RANGE,
    Errno::MSGSIZE,
    Errno::OPNOTSUPP,
    Errno::AFNOSUPPORT,
    Errno::NOBUFS,
];

/// Errors that answer requests which the kernel has carried out.
pub(super) const LIES: [Errno; 5] =
    [Errno::NOENT, Errno::SRCH, Errno::EXIST, Errno::NOMEM, Errno::INVAL];

/// A Service that changes as the targets do, without faults.
const UNAFFECTED: Target = Target(TARGETS);

/// Lets faults happen to targets, one to each. Asserts that no other Service is affected, that errors
/// name the affected targets, and that the kernel reaches the desired state without the faults.
fn assert_contained(
    harness: &mut FaultHarness,
    step: Step,
    faults: Vec<Fault>,
    unaffected: Option<Target>,
) {
    let targets: Vec<_> = (1..).zip(&faults).map(|(number, _)| Target(number)).collect();
    let all: Vec<_> = targets.iter().copied().chain(unaffected).collect();
    all.iter().for_each(|target| harness.deliver(step.before().events(*target)));
    harness.heal();
    harness.arm(targets.iter().zip(faults).map(|(target, fault)| fault.of(*target)));
    all.iter().for_each(|target| harness.deliver(step.events(*target)));
    harness.unaffected = unaffected;
    harness.work();
    harness.unaffected = None;
    for _ in 0..2 {
        harness.wait(Duration::from_secs(40));
        harness.work();
    }
    let unused = harness.unused_faults();
    assert!(unused.is_empty(), "{step:?} did not reach {unused:?}");
    harness.assert_reported(&targets);
    harness.heal();
}

pub(super) fn every_errno_on_every_operation(harness: &mut FaultHarness) {
    for (kind, step) in CHANGES {
        let hows = ERRORS.map(How::Refused).into_iter().chain(LIES.map(How::Belied));
        let faults = hows.map(|how| Fault::lasting(kind, how));
        let faults = faults.filter(|fault| !fault.is_plausible_lie()).collect();
        // What is drained goes later.
        assert_contained(harness, step, faults, (step != Step::Shrink).then_some(UNAFFECTED));
        harness.assert_saved();
    }
}

pub(super) fn lost_answers_and_torn_sends(harness: &mut FaultHarness) {
    let hows = [
        How::Unsent(Errno::INTR),
        How::Unsent(Errno::NOBUFS),
        How::Unheard(Errno::IO),
        How::Overrun,
        How::Unanswered,
        How::Cut,
    ];
    for (kind, step) in SENDS {
        for how in hows {
            assert_contained(harness, step, vec![Fault::lasting(kind, how)], None);
        }
    }
    harness.assert_saved();
}
