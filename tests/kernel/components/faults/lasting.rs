//! What lasts: how it is retried, and what goes on beside it.

use std::time::Duration;

use rustix::io::Errno;

use super::cluster::{Step, Target};
use super::harness::{FaultHarness, LONGEST_WAIT};
use super::kind::Kind;
use super::listed::ERRORS;
use super::script::{Fault, How};
use crate::components::node::enter;
use crate::components::{output, run};

pub(super) fn retries_of_a_lasting_fault_slow_down(harness: &mut FaultHarness) {
    let target = Target(1);
    for (kind, errno, remedy) in [
        (Kind::NewService, Errno::NOENT, "modprobe ip_vs_rr"),
        (Kind::NewDest, Errno::NOMEM, "out of memory"),
        (Kind::NewElement, Errno::NOSPC, "ENOSPC"),
        (Kind::NewRoute, Errno::NOMEM, "out of memory"),
    ] {
        harness.deliver(Step::Go.events(target));
        harness.heal();
        harness.arm([Fault::lasting(kind, How::Refused(errno)).of(target)]);
        harness.deliver(Step::Come.events(target));
        harness.work();
        let works = harness.works;
        let (mut passed, mut rounds) = (Duration::ZERO, 0);
        while passed < Duration::from_secs(300) {
            passed += harness.wait(LONGEST_WAIT);
            rounds += 1;
            harness.work();
        }
        // After 1, 2, 4 … 32 seconds, and then once a minute; an audit may come in between. Beside
        // that, IPVS is read every half a minute.
        let most = harness.engine.errors().map(|error| error.attempts).max();
        assert!(matches!(most, Some(9..=13)), "{}: {most:?} tries", harness.task);
        let works = harness.works - works;
        assert!(works <= 3 * rounds && rounds < 45, "{}: {works} in {rounds} rounds", harness.task);
        let messages = harness.messages();
        let is_told = |message: &String| target.is_named(message) && message.contains(remedy);
        assert!(messages.iter().any(is_told), "{}: {messages:#?}", harness.task);
        harness.heal();
    }
}

pub(super) fn connection_tracking_that_fails_holds_up_nothing(harness: &mut FaultHarness) {
    let target = Target(1);
    for (kind, how) in [
        (Kind::ListFlows, How::Refused(Errno::NOMEM)),
        (Kind::ListFlows, How::Overrun),
        (Kind::DeleteFlow, How::Refused(Errno::BUSY)),
        (Kind::DeleteFlow, How::Unanswered),
        (Kind::DeleteFlow, How::Unsent(Errno::NOBUFS)),
    ] {
        harness.deliver(Step::Come.events(target));
        harness.deliver(Step::Go.events(Target(2)));
        harness.heal();
        let frontend = ("203.0.114.1", 53);
        enter("udp", "10.244.1.200", frontend, ("10.244.1.67", 53));
        harness.arm([Fault::lasting(kind, how)]);
        harness.deliver(Step::Shrink.events(target));
        harness.work();
        harness.deliver(Step::Come.events(Target(2)));
        harness.work();
        assert!(harness.unused_faults().is_empty(), "never came to {}", harness.task);
        harness.assert_present(Target(2));
        let messages = harness.messages();
        assert!(messages.iter().any(|it| target.is_named(it)), "{}: {messages:?}", harness.task);
        harness.heal();
        let left = output("conntrack -L");
        assert!(!left.contains("dst=203.0.114.1"), "{}: {left}", harness.task);
    }
}

pub(super) fn another_number_of_the_family_is_found(harness: &mut FaultHarness) {
    for (shift, step) in [(100, Step::Come), (7, Step::Shrink), (0, Step::Go), (30, Step::Come)] {
        harness.script().family_shift = shift;
        harness.deliver(step.events(Target(1)));
        harness.work();
        assert_eq!(harness.engine.failures(), 0, "shifted by {shift}");
        harness.now += Duration::from_secs(60);
        harness.work();
        harness.assert_exact();
    }
    // The new number is unknown for a while: the module is being loaded.
    for how in [How::Refused(Errno::NOENT), How::Refused(Errno::NOMEM), How::Unanswered] {
        harness.arm([Fault::lasting(Kind::Family, how)]);
        harness.script().family_shift += 1;
        harness.deliver(Step::Go.events(Target(1)));
        harness.work();
        assert!(harness.engine.failures() > 0, "{}", harness.task);
        harness.heal();
        harness.deliver(Step::Come.events(Target(1)));
        harness.heal();
    }
    harness.assert_saved();
}

pub(super) fn a_former_rule_is_deleted_eventually(harness: &mut FaultHarness) {
    for how in ERRORS.map(How::Refused).into_iter().chain([How::Overrun, How::Unanswered, How::Cut])
    {
        run("ip -6 rule add not iif lo lookup 7575 pref 75 protocol 75");
        harness.arm([Fault::lasting(Kind::DeleteRule, how)]);
        harness.engine.handle_drift(harness.now);
        harness.wait_for_drift();
        harness.work();
        harness.wait(LONGEST_WAIT);
        harness.work();
        assert!(harness.unused_faults().is_empty(), "never came to {}", harness.task);
        harness.heal();
        assert!(!output("ip -6 rule").contains("lookup 7575"), "{}", harness.task);
    }
    harness.assert_saved();
}

pub(super) fn tables_and_device_are_created_again(harness: &mut FaultHarness) {
    harness.forget_others();
    let hows = [How::Refused(Errno::PERM), How::Unanswered, How::Cut];
    let destroy = [
        ("ip link delete kube-ipvs0", Kind::NewLink),
        ("ip link delete kube-ipvs0", Kind::GetLink),
        ("nft delete table ip kube-ipvs", Kind::Transaction),
        ("nft delete table ip6 kube-ipvs", Kind::Ruleset),
        ("nft delete table arp kube-ipvs", Kind::NewElement),
    ];
    for (command, kind) in destroy {
        for how in hows {
            run(command);
            harness.arm([Fault::lasting(kind, how)]);
            harness.engine.handle_drift(harness.now);
            harness.wait_for_drift();
            harness.work();
            for _ in 0..2 {
                harness.wait(LONGEST_WAIT);
                harness.work();
            }
            assert!(
                harness.unused_faults().is_empty(),
                "{command}: never came to {}",
                harness.task
            );
            harness.heal();
        }
    }
    harness.assert_saved();
}
