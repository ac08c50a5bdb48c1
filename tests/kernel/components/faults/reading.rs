//! Dumps that fail, are torn, or tell a part only.

use std::net::IpAddr;
use std::time::Duration;

use kube_ipvs::kernel::ipvs::Ipvs;
use kube_ipvs_core::model::{Backend, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::ServerOperation;
use rustix::io::Errno;

use super::cluster::{Step, Victim};
use super::kind::Kind;
use super::rig::{AUDIT_PERIOD, LONGEST_WAIT, Rig};
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
fn read(rig: &mut Rig, faults: Vec<Fault>) {
    rig.tell(Step::Go.events(Victim(2)));
    rig.heal();
    let lasts = faults.iter().any(|fault| fault.times == usize::MAX);
    rig.arm(faults);
    rig.engine.handle_drift(rig.now);
    rig.wait_for_tampering();
    rig.work();
    rig.tell(Step::Come.events(Victim(2)));
    rig.work();
    let spared = rig.spared();
    assert!(spared.is_empty(), "never came to {spared:?}");
    if !lasts {
        assert_eq!(rig.engine.failures(), 0, "{}", rig.task);
        rig.assert_exact();
    }
    rig.heal();
}

pub(super) fn dumps_that_fail_or_are_torn(rig: &mut Rig) {
    rig.tell(Step::Come.events(Victim(1)));
    rig.tell(Step::Come.events(Victim(2)));
    rig.heal();
    for kind in LISTS {
        for how in [How::Refused(Errno::NOMEM), How::Overrun, How::Unanswered] {
            read(rig, vec![Fault::lasting(kind, how)]);
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
        read(rig, lists.map(|kind| Fault::lasting(kind, how).times(3)).collect());
    }
    rig.assert_saved();
}

pub(super) fn a_service_that_cannot_be_read(rig: &mut Rig) {
    for kind in [Kind::GetService, Kind::ListDests] {
        rig.tell(Step::Shrink.events(Victim(1)));
        rig.heal();
        let victim = Victim(1);
        let refused = |kind| Fault::lasting(kind, How::Refused(Errno::NOMEM));
        // Two faults: the first makes the engine want to read.
        let belied = Fault::lasting(Kind::NewDest, How::Belied(Errno::NOMEM)).times(1);
        rig.arm([refused(kind).of(victim), belied.of(victim)]);
        rig.tell(Step::Grow.events(victim));
        rig.tell(Step::Come.events(Victim(2)));
        rig.work();
        for _ in 0..3 {
            rig.wait(LONGEST_WAIT);
            rig.work();
        }
        assert_cannot_be_read(rig, &[victim]);
        rig.assert_present(Victim(2));
        rig.heal();
    }
}

/// Of these it is told that they cannot be read, and nothing of anybody else.
fn assert_cannot_be_read(rig: &Rig, victims: &[Victim]) {
    let messages = rig.messages();
    for victim in victims {
        let is_told =
            |message: &String| message.contains("cannot be read") && victim.is_named(message);
        assert!(messages.iter().any(is_told), "{victim:?}: {messages:#?}");
    }
    let is_anothers = |message: &&String| !victims.iter().any(|victim| victim.is_named(message));
    assert_eq!(messages.iter().find(is_anothers), None, "{}", rig.task);
}

/// The real servers of a victim cannot be read, for good.
fn unread(victim: Victim) -> Fault {
    Fault::lasting(Kind::ListDests, How::Refused(Errno::NOMEM)).of(victim)
}

/// What can be read again is put right by the retry, without a reading of everything.
fn assert_mended(rig: &mut Rig) {
    rig.arm([]);
    rig.now += LONGEST_WAIT;
    rig.work();
    assert_eq!(rig.engine.failures(), 0, "{:?}", rig.messages());
    rig.assert_exact();
}

pub(super) fn one_that_cannot_be_read_at_an_audit(rig: &mut Rig) {
    let [victim, healthy] = [Victim(1), Victim(2)];
    rig.tell(Step::Come.events(victim));
    rig.tell(Step::Come.events(healthy));
    rig.heal();
    run("ipvsadm -d -t 10.96.1.1:80 -r 10.244.1.66:8080");
    run("ipvsadm -d -t 10.96.1.2:80 -r 10.244.1.66:8080");
    run("ipvsadm -D -u 10.96.1.2:53");
    rig.arm([unread(victim)]);
    rig.now += AUDIT_PERIOD;
    rig.work();
    assert_eq!(rig.unread, None);
    rig.assert_present(healthy);
    assert_cannot_be_read(rig, &[victim]);
    // Its changes go on being written, and do not end the doubt about the rest.
    for step in [Step::Shrink, Step::Grow] {
        rig.tell(step.events(victim));
        rig.work();
        let is_held =
            output("ipvsadm -Sn").contains("-a -t 10.96.1.1:80 -r 10.244.1.67:8080 -m -w 1");
        assert_eq!(is_held, step == Step::Grow);
        assert_cannot_be_read(rig, &[victim]);
    }
    // It is tried ever more rarely, and nothing else is read for it.
    let lists = Fault::lasting(Kind::ListServices, How::Unanswered);
    rig.arm([unread(victim), lists]);
    let servers = rig.messages().len();
    let mut passed = Duration::ZERO;
    while passed < Duration::from_secs(240) {
        passed += rig.wait(LONGEST_WAIT);
        rig.work();
    }
    let happened: Vec<_> = rig.script().faults.iter().map(|fault| fault.happened).collect();
    // Each of its virtual servers after 1, 2, 4 … 32 seconds, and then once a minute.
    assert!((8 * servers..=11 * servers).contains(&happened[0]), "read {} times", happened[0]);
    assert_eq!(happened[1], 0);
    assert_mended(rig);
}

pub(super) fn one_that_cannot_be_read_at_the_first_sync(rig: &mut Rig) {
    let [victim, gone, healthy, new] = [Victim(1), Victim(2), Victim(3), Victim(4)];
    for held in [victim, gone, healthy] {
        rig.tell(Step::Come.events(held));
    }
    rig.heal();
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
    // Of what is somebody else's, nothing is to be told.
    run("ipvsadm -A -t 198.18.0.1:80");
    let IpAddr::V4(strangers) = stranger(1).ip else { unreachable!() };
    let of_stranger = Fault { about: vec![strangers.octets().to_vec()], ..unread(victim) };
    rig.arm([unread(victim), unread(gone), of_stranger]);
    rig.restart([victim, healthy, new].into_iter().flat_map(|it| Step::Come.events(it)));
    rig.work();
    assert!(rig.unread.is_none() && rig.engine.is_synced() && rig.spared().is_empty());
    rig.assert_present(healthy);
    rig.assert_present(new);
    assert_cannot_be_read(rig, &[victim, gone]);
    assert_eq!(of_victim(output("ipvsadm -Sn")), before);
    run("ipvsadm -D -t 198.18.0.1:80");
    assert_mended(rig);
}

pub(super) fn what_cannot_be_read_is_read_ever_more_rarely(rig: &mut Rig) {
    rig.arm([Fault::lasting(Kind::ListServices, How::Refused(Errno::NOMEM))]);
    rig.engine.handle_drift(rig.now);
    rig.wait_for_tampering();
    rig.work();
    let mut passed = Duration::ZERO;
    for step in [Step::Come, Step::Go].into_iter().cycle() {
        assert!(rig.unread.is_some());
        if passed >= Duration::from_secs(300) {
            break;
        }
        passed += rig.wait(LONGEST_WAIT);
        // Neither somebody who goes on tampering nor other work makes it be read more often.
        rig.engine.handle_drift(rig.now);
        rig.tell(step.events(Victim(2)));
        rig.work();
    }
    // After 1, 2, 4 … 32 seconds, and then once a minute.
    let readings = rig.script().faults[0].happened;
    assert!((9..=12).contains(&readings), "read {readings} times");
    // What others have done meanwhile is put right once it can be read.
    run("ipvsadm -D -t 10.96.0.10:80");
    rig.arm([]);
    rig.now += LONGEST_WAIT;
    rig.work();
    assert_eq!(rig.unread, None);
    rig.assert_exact();
}

pub(super) fn virtual_servers_are_read_where_not_everything_can_be(rig: &mut Rig) {
    let [doubtful, healthy] = [Victim(1), Victim(2)];
    rig.arm([
        Fault::lasting(Kind::ListServices, How::Refused(Errno::NOMEM)),
        // Of elements that are in doubt, only a reading of everything tells.
        Fault::lasting(Kind::NewElement, How::Unanswered).of(doubtful),
        Fault::lasting(Kind::NewDest, How::Belied(Errno::NOMEM)).of(healthy).times(1),
    ]);
    rig.tell(Step::Come.events(doubtful));
    rig.tell(Step::Come.events(healthy));
    rig.work();
    for _ in 0..4 {
        rig.wait(LONGEST_WAIT);
        rig.work();
    }
    assert!(rig.spared().is_empty() && rig.unread.is_some(), "never came to {}", rig.task);
    let messages = rig.messages();
    let is_stuck = |it: &&String| it.starts_with("ipvsadm") && healthy.is_named(it);
    assert_eq!(messages.iter().find(is_stuck), None, "{messages:#?}");
    rig.heal();
}

/// A virtual server of somebody else, outside our ranges.
fn stranger(number: u8) -> VirtualAddress {
    format!("198.18.0.{number}:80").parse().unwrap()
}

pub(super) fn dumps_while_others_write(rig: &mut Rig) {
    for number in 1..=8 {
        rig.tell(Step::Come.events(Victim(number)));
    }
    rig.heal();
    let mut writer = Ipvs::open().unwrap();
    let mut turn = 0;
    let mut held = [false; STRANGERS as usize];
    rig.disturb(Some(Box::new(move || {
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
        let victim = Victim(1 + turn % 8);
        rig.tell(if turn / 8 % 2 == 0 { Step::Go } else { Step::Come }.events(victim));
        rig.engine.handle_drift(rig.now);
        rig.wait_for_tampering();
        rig.work();
    }
    rig.disturb(None);
    let gone: Vec<_> =
        (0..STRANGERS).map(|number| ServerOperation::Delete(stranger(number))).collect();
    Ipvs::open().unwrap().apply(gone).into_iter().for_each(|outcome| outcome.unwrap());
    rig.heal();
    rig.assert_saved();
}
