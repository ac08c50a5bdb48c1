//! Every fault by itself, for good: each happens to a victim of its own.

use std::time::Duration;

use rustix::io::Errno;

use super::cluster::{Step, Victim};
use super::kind::Kind;
use super::rig::{Rig, wire};
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
const SENDS: [(Kind, Step); 4] = [
    (Kind::NewDest, Step::Grow),
    (Kind::NewElement, Step::Come),
    (Kind::NewAddress, Step::Come),
    (Kind::DeleteDest, Step::Shrink),
];

const ERRORS: [Errno; 15] = [
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

/// Lets faults happen to victims, one to each, and asserts that they cost nobody else anything,
/// that whom they cost something is told, and that nothing is left of them.
fn suffer(rig: &mut Rig, step: Step, faults: Vec<Fault>) {
    let victims: Vec<_> = (1..).zip(&faults).map(|(number, _)| Victim(number)).collect();
    for victim in &victims {
        rig.tell(step.before().events(*victim));
    }
    rig.heal();
    rig.arm(victims.iter().zip(faults).map(|(victim, fault)| fault.of(*victim)));
    for victim in &victims {
        rig.tell(step.events(*victim));
    }
    rig.work();
    for _ in 0..3 {
        rig.wait(Duration::from_secs(40));
        rig.work();
    }
    let spared = rig.spared();
    assert!(spared.is_empty(), "{step:?} did not come to {spared:?}");
    rig.assert_told(&victims);
    rig.heal();
}

pub(super) fn every_errno_on_every_operation() {
    wire();
    let mut rig = Rig::with_others();
    for (kind, step) in CHANGES {
        for how in [How::Refused, How::Belied] {
            let mut faults = ERRORS.map(|errno| Fault::lasting(kind, how(errno))).to_vec();
            faults.retain(|fault| !fault.is_plausible_lie());
            suffer(&mut rig, step, faults);
        }
        rig.assert_saved();
    }
}

pub(super) fn lost_answers_and_torn_sends() {
    wire();
    let mut rig = Rig::with_others();
    let hows = [
        How::Unsent(Errno::INTR),
        How::Unsent(Errno::NOBUFS),
        How::Unsent(Errno::MSGSIZE),
        How::Unheard(Errno::INTR),
        How::Unheard(Errno::IO),
        How::Overrun,
        How::Unanswered,
        How::Cut,
    ];
    for (kind, step) in SENDS {
        for how in hows {
            suffer(&mut rig, step, vec![Fault::lasting(kind, how)]);
        }
    }
    rig.assert_saved();
}
