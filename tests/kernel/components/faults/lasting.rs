//! What lasts: how it is retried, and what goes on beside it.

use std::time::Duration;

use rustix::io::Errno;

use super::cluster::{Step, Victim};
use super::kind::Kind;
use super::listed::ERRORS;
use super::rig::{LONGEST_WAIT, Rig};
use super::script::{Fault, How};
use crate::components::node::enter;
use crate::components::{output, run};

pub(super) fn what_lasts_is_retried_ever_more_rarely(rig: &mut Rig) {
    let victim = Victim(1);
    for (kind, errno, remedy) in [
        (Kind::NewService, Errno::NOENT, "modprobe ip_vs_rr"),
        (Kind::NewDest, Errno::NOMEM, "out of memory"),
        (Kind::NewElement, Errno::NOSPC, "ENOSPC"),
        (Kind::NewRoute, Errno::NOMEM, "out of memory"),
    ] {
        rig.tell(Step::Go.events(victim));
        rig.heal();
        rig.arm([Fault::lasting(kind, How::Refused(errno)).of(victim)]);
        rig.tell(Step::Come.events(victim));
        rig.work();
        let works = rig.works;
        let (mut passed, mut rounds) = (Duration::ZERO, 0);
        while passed < Duration::from_secs(300) {
            passed += rig.wait(LONGEST_WAIT);
            rounds += 1;
            rig.work();
        }
        // After 1, 2, 4 … 32 seconds, and then once a minute; an audit may come in between. Beside
        // that, IPVS is read every half a minute.
        let most = rig.engine.errors().map(|error| error.attempts).max();
        assert!(matches!(most, Some(9..=13)), "{}: {most:?} tries", rig.task);
        let works = rig.works - works;
        assert!(works <= 3 * rounds && rounds < 45, "{}: {works} in {rounds} rounds", rig.task);
        let messages = rig.messages();
        let is_told = |message: &String| victim.is_named(message) && message.contains(remedy);
        assert!(messages.iter().any(is_told), "{}: {messages:#?}", rig.task);
        rig.heal();
    }
}

pub(super) fn connection_tracking_that_fails_holds_up_nothing(rig: &mut Rig) {
    let victim = Victim(1);
    for (kind, how) in [
        (Kind::ListFlows, How::Refused(Errno::NOMEM)),
        (Kind::ListFlows, How::Overrun),
        (Kind::DeleteFlow, How::Refused(Errno::BUSY)),
        (Kind::DeleteFlow, How::Unanswered),
        (Kind::DeleteFlow, How::Unsent(Errno::NOBUFS)),
    ] {
        rig.tell(Step::Come.events(victim));
        rig.tell(Step::Go.events(Victim(2)));
        rig.heal();
        let frontend = ("203.0.114.1", 53);
        enter("udp", "10.244.1.200", frontend, ("10.244.1.67", 53));
        rig.arm([Fault::lasting(kind, how)]);
        rig.tell(Step::Shrink.events(victim));
        rig.work();
        rig.tell(Step::Come.events(Victim(2)));
        rig.work();
        assert!(rig.spared().is_empty(), "never came to {}", rig.task);
        rig.assert_present(Victim(2));
        let messages = rig.messages();
        assert!(messages.iter().any(|it| victim.is_named(it)), "{}: {messages:?}", rig.task);
        rig.heal();
        let left = output("conntrack -L");
        assert!(!left.contains("dst=203.0.114.1"), "{}: {left}", rig.task);
    }
}

pub(super) fn another_number_of_the_family_is_found(rig: &mut Rig) {
    for (shift, step) in [(100, Step::Come), (7, Step::Shrink), (0, Step::Go), (30, Step::Come)] {
        rig.script().family_shift = shift;
        rig.tell(step.events(Victim(1)));
        rig.work();
        assert_eq!(rig.engine.failures(), 0, "shifted by {shift}");
        rig.now += Duration::from_secs(60);
        rig.work();
        rig.assert_exact();
    }
    // Nobody tells the new one for a while: the module is being loaded.
    for how in [How::Refused(Errno::NOENT), How::Refused(Errno::NOMEM), How::Unanswered] {
        rig.arm([Fault::lasting(Kind::Family, how)]);
        rig.script().family_shift += 1;
        rig.tell(Step::Go.events(Victim(1)));
        rig.work();
        assert!(rig.engine.failures() > 0, "{}", rig.task);
        rig.heal();
        rig.tell(Step::Come.events(Victim(1)));
        rig.heal();
    }
    rig.assert_saved();
}

pub(super) fn a_former_rule_goes_in_the_end(rig: &mut Rig) {
    for how in ERRORS.map(How::Refused).into_iter().chain([How::Overrun, How::Unanswered, How::Cut])
    {
        run("ip -6 rule add not iif lo lookup 7575 pref 75 protocol 75");
        rig.arm([Fault::lasting(Kind::DeleteRule, how)]);
        rig.engine.handle_drift(rig.now);
        rig.wait_for_tampering();
        rig.work();
        rig.wait(LONGEST_WAIT);
        rig.work();
        assert!(rig.spared().is_empty(), "never came to {}", rig.task);
        rig.heal();
        assert!(!output("ip -6 rule").contains("lookup 7575"), "{}", rig.task);
    }
    rig.assert_saved();
}

pub(super) fn the_ground_is_made_again(rig: &mut Rig) {
    rig.give_up_others();
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
            rig.arm([Fault::lasting(kind, how)]);
            rig.engine.handle_drift(rig.now);
            rig.wait_for_tampering();
            rig.work();
            for _ in 0..2 {
                rig.wait(LONGEST_WAIT);
                rig.work();
            }
            assert!(rig.spared().is_empty(), "{command}: never came to {}", rig.task);
            rig.heal();
        }
    }
    rig.assert_saved();
}
