//! Dumps that fail, are torn, or contain a part only.

use std::net::IpAddr;
use std::time::Duration;

use kube_ipvs::kernel::ipvs::Ipvs;
use kube_ipvs_core::model::{Backend, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::ServerOperation;
use rustix::io::Errno;

use super::cluster::{Step, Target};
use super::harness::{AUDIT_PERIOD, FaultHarness, LONGEST_WAIT};
use super::kind::Kind;
use super::script::{Fault, How};
use crate::components::{output, run};

const LISTS: [Kind; 7] = [
    Kind::ListServices,
    Kind::ListDests,
    Kind::ListRuleset,
    Kind::ListElements,
    Kind::GetLink,
    Kind::ListRoutes,
    Kind::ListRules,
];

/// How many virtual servers of others come and go.
const STRANGERS: u8 = 40;

/// The kernel is read while something goes wrong; meanwhile a Service comes all the same.
fn read(harness: &mut FaultHarness, faults: Vec<Fault>) {
    harness.deliver(Step::Go.events(Target(2)));
    harness.heal();
    let lasts = faults.iter().any(|fault| fault.times == usize::MAX);
    harness.arm(faults);
    harness.engine.handle_drift(harness.now);
    harness.wait_for_drift();
    harness.work();
    harness.deliver(Step::Come.events(Target(2)));
    harness.work();
    let spared = harness.unused_faults();
    assert!(spared.is_empty(), "never came to {spared:?}");
    if !lasts {
        assert_eq!(harness.engine.failures(), 0, "{}", harness.task);
        harness.assert_exact();
    }
    harness.heal();
}

pub(super) fn dumps_that_fail_or_are_torn(harness: &mut FaultHarness) {
    harness.deliver(Step::Come.events(Target(1)));
    harness.deliver(Step::Come.events(Target(2)));
    harness.heal();
    for kind in LISTS {
        for how in [How::Refused(Errno::NOMEM), How::Overrun, How::Unanswered] {
            read(harness, vec![Fault::lasting(kind, how)]);
        }
    }
    // What the kernel cures by itself, and what it never tells of: of all lists at once.
    let passing = [
        How::Flagged,
        How::Overrun,
        How::Unheard(Errno::INTR),
        How::Refused(Errno::BUSY),
        How::Gap,
        How::Doubled,
    ];
    for how in passing {
        let lists = LISTS.into_iter().filter(|kind| *kind != Kind::GetLink);
        read(harness, lists.map(|kind| Fault::lasting(kind, how).times(3)).collect());
    }
    harness.assert_saved();
}

pub(super) fn a_service_that_cannot_be_read(harness: &mut FaultHarness) {
    for kind in [Kind::GetService, Kind::ListDests] {
        harness.deliver(Step::Shrink.events(Target(1)));
        harness.heal();
        let target = Target(1);
        let refused = |kind| Fault::lasting(kind, How::Refused(Errno::NOMEM));
        // Two faults: the first makes the engine want to read.
        let belied = Fault::lasting(Kind::NewDest, How::Belied(Errno::NOMEM)).times(1);
        harness.arm([refused(kind).of(target), belied.of(target)]);
        harness.deliver(Step::Grow.events(target));
        harness.deliver(Step::Come.events(Target(2)));
        harness.work();
        for _ in 0..3 {
            harness.wait(LONGEST_WAIT);
            harness.work();
        }
        assert_cannot_be_read(harness, &[target]);
        harness.assert_present(Target(2));
        harness.heal();
    }
}

/// Errors report that these cannot be read, and name no other virtual server.
fn assert_cannot_be_read(harness: &FaultHarness, targets: &[Target]) {
    let messages = harness.messages();
    for target in targets {
        let is_told =
            |message: &String| message.contains("cannot be read") && target.is_named(message);
        assert!(messages.iter().any(is_told), "{target:?}: {messages:#?}");
    }
    let is_anothers = |message: &&String| !targets.iter().any(|target| target.is_named(message));
    assert_eq!(messages.iter().find(is_anothers), None, "{}", harness.task);
}

/// The real servers of a target cannot be read, for good.
fn unread(target: Target) -> Fault {
    Fault::lasting(Kind::ListDests, How::Refused(Errno::NOMEM)).of(target)
}

/// What can be read again is put right by the retry, without a reading of everything.
fn assert_mended(harness: &mut FaultHarness) {
    harness.arm([]);
    harness.now += LONGEST_WAIT;
    harness.work();
    assert_eq!(harness.engine.failures(), 0, "{:?}", harness.messages());
    harness.assert_exact();
}

pub(super) fn a_virtual_server_unreadable_at_an_audit(harness: &mut FaultHarness) {
    let [target, healthy] = [Target(1), Target(2)];
    harness.deliver(Step::Come.events(target));
    harness.deliver(Step::Come.events(healthy));
    harness.heal();
    run("ipvsadm -d -t 10.96.1.1:80 -r 10.244.1.66:8080");
    run("ipvsadm -d -t 10.96.1.2:80 -r 10.244.1.66:8080");
    run("ipvsadm -D -u 10.96.1.2:53");
    harness.arm([unread(target)]);
    harness.now += AUDIT_PERIOD;
    harness.work();
    assert_eq!(harness.unread, None);
    harness.assert_present(healthy);
    assert_cannot_be_read(harness, &[target]);
    // Its changes go on being written, and do not end the doubt about the rest.
    for step in [Step::Shrink, Step::Grow] {
        harness.deliver(step.events(target));
        harness.work();
        let is_held =
            output("ipvsadm -Sn").contains("-a -t 10.96.1.1:80 -r 10.244.1.67:8080 -m -w 1");
        assert_eq!(is_held, step == Step::Grow);
        assert_cannot_be_read(harness, &[target]);
    }
    // It is tried ever more rarely, and nothing else is read for it.
    let lists = Fault::lasting(Kind::ListServices, How::Unanswered);
    harness.arm([unread(target), lists]);
    let servers = harness.messages().len();
    let mut passed = Duration::ZERO;
    while passed < Duration::from_secs(240) {
        passed += harness.wait(LONGEST_WAIT);
        harness.work();
    }
    let happened: Vec<_> = harness.script().faults.iter().map(|fault| fault.happened).collect();
    // Each of its virtual servers after 1, 2, 4 … 32 seconds, and then once a minute.
    assert!((8 * servers..=11 * servers).contains(&happened[0]), "read {} times", happened[0]);
    assert_eq!(happened[1], 0);
    assert_mended(harness);
}

pub(super) fn a_virtual_server_unreadable_at_the_first_sync(harness: &mut FaultHarness) {
    let [target, gone, healthy, new] = [Target(1), Target(2), Target(3), Target(4)];
    for held in [target, gone, healthy] {
        harness.deliver(Step::Come.events(held));
    }
    harness.heal();
    run("ipvsadm -d -t 10.96.1.1:80 -r 10.244.1.66:8080");
    run("ipvsadm -d -t 10.96.1.3:80 -r 10.244.1.66:8080");
    let of_victim = |saved: String| {
        saved
            .lines()
            .filter(|line| line.contains("10.96.1.1:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = of_victim(output("ipvsadm -Sn"));
    // No error names virtual servers of other programs.
    run("ipvsadm -A -t 198.18.0.1:80");
    let IpAddr::V4(strangers) = stranger(1).ip else { unreachable!() };
    let of_stranger = Fault { about: vec![strangers.octets().to_vec()], ..unread(target) };
    harness.arm([unread(target), unread(gone), of_stranger]);
    harness.restart([target, healthy, new].into_iter().flat_map(|it| Step::Come.events(it)));
    harness.work();
    assert!(
        harness.unread.is_none()
            && harness.engine.is_synced()
            && harness.unused_faults().is_empty()
    );
    harness.assert_present(healthy);
    harness.assert_present(new);
    assert_cannot_be_read(harness, &[target, gone]);
    assert_eq!(of_victim(output("ipvsadm -Sn")), before);
    run("ipvsadm -D -t 198.18.0.1:80");
    assert_mended(harness);
}

pub(super) fn failed_reads_slow_down(harness: &mut FaultHarness) {
    harness.arm([Fault::lasting(Kind::ListServices, How::Refused(Errno::NOMEM))]);
    harness.engine.handle_drift(harness.now);
    harness.wait_for_drift();
    harness.work();
    let mut passed = Duration::ZERO;
    for step in [Step::Come, Step::Go].into_iter().cycle() {
        assert!(harness.unread.is_some());
        if passed >= Duration::from_secs(300) {
            break;
        }
        passed += harness.wait(LONGEST_WAIT);
        // Neither repeated drift nor other work causes more reads.
        harness.engine.handle_drift(harness.now);
        harness.deliver(step.events(Target(2)));
        harness.work();
    }
    // After 1, 2, 4 … 32 seconds, and then once a minute.
    let readings = harness.script().faults[0].happened;
    assert!((9..=12).contains(&readings), "read {readings} times");
    // What others have done meanwhile is put right once it can be read.
    run("ipvsadm -D -t 10.96.0.10:80");
    harness.arm([]);
    harness.now += LONGEST_WAIT;
    harness.work();
    assert_eq!(harness.unread, None);
    harness.assert_exact();
}

pub(super) fn virtual_servers_are_read_if_not_everything_can_be(harness: &mut FaultHarness) {
    let [doubtful, healthy] = [Target(1), Target(2)];
    harness.arm([
        Fault::lasting(Kind::ListServices, How::Refused(Errno::NOMEM)),
        // Of elements that are in doubt, only a reading of everything tells.
        Fault::lasting(Kind::NewElement, How::Unanswered).of(doubtful),
        Fault::lasting(Kind::NewDest, How::Belied(Errno::NOMEM)).of(healthy).times(1),
    ]);
    harness.deliver(Step::Come.events(doubtful));
    harness.deliver(Step::Come.events(healthy));
    harness.work();
    for _ in 0..4 {
        harness.wait(LONGEST_WAIT);
        harness.work();
    }
    assert!(
        harness.unused_faults().is_empty() && harness.unread.is_some(),
        "never came to {}",
        harness.task
    );
    let messages = harness.messages();
    let is_stuck = |it: &&String| it.starts_with("ipvsadm") && healthy.is_named(it);
    assert_eq!(messages.iter().find(is_stuck), None, "{messages:#?}");
    harness.heal();
}

/// A virtual server of another program, outside our ranges.
fn stranger(number: u8) -> VirtualAddress {
    format!("198.18.0.{number}:80").parse().unwrap()
}

pub(super) fn dumps_while_others_write(harness: &mut FaultHarness) {
    for number in 1..=8 {
        harness.deliver(Step::Come.events(Target(number)));
    }
    harness.heal();
    let mut writer = Ipvs::open().unwrap();
    let mut turn = 0;
    let mut held = [false; STRANGERS as usize];
    harness.disturb(Some(Box::new(move || {
        let number = turn % STRANGERS;
        turn = turn.wrapping_add(7);
        let is_held = &mut held[usize::from(number)];
        let address = stranger(number);
        let server = VirtualServer::new(address, Scheduler::Rr);
        let real =
            Backend { address: "10.9.9.9".parse().unwrap(), port: 80, weight: 1, local: false };
        let operations = match *is_held {
            true => vec![ServerOperation::Delete(address)],
            false => vec![ServerOperation::Add(server), ServerOperation::AddReal(address, real, 0)],
        };
        *is_held = !*is_held;
        writer.apply(operations).into_iter().for_each(|outcome| outcome.unwrap());
    })));
    for turn in 0..24 {
        let target = Target(1 + turn % 8);
        harness.deliver(if turn / 8 % 2 == 0 { Step::Go } else { Step::Come }.events(target));
        harness.engine.handle_drift(harness.now);
        harness.wait_for_drift();
        harness.work();
    }
    harness.disturb(None);
    let gone: Vec<_> =
        (0..STRANGERS).map(|number| ServerOperation::Delete(stranger(number))).collect();
    Ipvs::open().unwrap().apply(gone).into_iter().for_each(|outcome| outcome.unwrap());
    harness.heal();
    harness.assert_saved();
}
