//! Every fault by itself, for good: each happens to a victim of its own.

use std::time::Duration;

use rustix::io::Errno;

use super::cluster::{Step, VICTIMS, Victim};
use super::kind::Kind;
use super::rig::Rig;
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

/// Those that what was done is belied with.
pub(super) const LIES: [Errno; 5] =
    [Errno::NOENT, Errno::SRCH, Errno::EXIST, Errno::NOMEM, Errno::INVAL];

/// Changes as the victims do, and no fault is about it.
const BYSTANDER: Victim = Victim(VICTIMS);

/// Lets faults happen to victims, one to each, and asserts that they cost nobody else anything, not
/// even a bystander that changes with them; that whom they cost something is told; and that nothing
/// is left of them.
fn suffer(rig: &mut Rig, step: Step, faults: Vec<Fault>, bystander: Option<Victim>) {
    let victims: Vec<_> = (1..).zip(&faults).map(|(number, _)| Victim(number)).collect();
    let all: Vec<_> = victims.iter().copied().chain(bystander).collect();
    all.iter().for_each(|victim| rig.tell(step.before().events(*victim)));
    rig.heal();
    rig.arm(victims.iter().zip(faults).map(|(victim, fault)| fault.of(*victim)));
    all.iter().for_each(|victim| rig.tell(step.events(*victim)));
    rig.bystander = bystander;
    rig.work();
    rig.bystander = None;
    for _ in 0..2 {
        rig.wait(Duration::from_secs(40));
        rig.work();
    }
    let spared = rig.spared();
    assert!(spared.is_empty(), "{step:?} did not come to {spared:?}");
    rig.assert_told(&victims);
    rig.heal();
}

pub(super) fn every_errno_on_every_operation(rig: &mut Rig) {
    for (kind, step) in CHANGES {
        let hows = ERRORS.map(How::Refused).into_iter().chain(LIES.map(How::Belied));
        let faults = hows.map(|how| Fault::lasting(kind, how));
        let faults = faults.filter(|fault| !fault.is_plausible_lie()).collect();
        // What is drained goes later.
        suffer(rig, step, faults, (step != Step::Shrink).then_some(BYSTANDER));
        rig.assert_saved();
    }
}

pub(super) fn lost_answers_and_torn_sends(rig: &mut Rig) {
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
            suffer(rig, step, vec![Fault::lasting(kind, how)], None);
        }
    }
    rig.assert_saved();
}
