use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{PoolControl, Scheduler, Shared, VirtualServer};

const STEP: Duration = Duration::from_millis(100);

/// What an endpoint does with a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Endpoint {
    Answers,
    /// The connection is answered and stays open.
    Stays,
    /// As a half-open scan.
    AnswersOnce,
    Dead,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    connections: u64,
    packets_out: u64,
    active: u32,
}

/// A kernel that adds up every two seconds, with a pool of endpoints by octet.
struct Model {
    ejections: Ejections,
    /// The number of virtual servers.
    servers: usize,
    pool: Shared<Pool>,
    endpoints: BTreeMap<u8, Endpoint>,
    counted: BTreeMap<u8, Counted>,
    added_up: BTreeMap<u8, Counted>,
    out: BTreeSet<u8>,
    /// The endpoints that have not answered their last connection,
    owing: BTreeSet<u8>,
    /// and when each did so last.
    unanswered: BTreeMap<u8, Instant>,
    steps: u32,
    start: Instant,
    /// Dumps of virtual servers, and of the real servers of one.
    dumps: (usize, usize),
    changes: Vec<(u8, EjectionChange)>,
}

fn backend(last: u8) -> Backend {
    Backend { address: [10, 244, 1, last].into(), port: 80, weight: 1, local: false }
}

fn pool(address: &str, flags: u32, eject: Duration, endpoints: impl Iterator<Item = u8>) -> Pool {
    let address = address.parse().expect("address");
    Pool {
        server: VirtualServer { flags, ..VirtualServer::new(address, Scheduler::Rr) },
        backends: endpoints.map(backend).collect(),
        control: Some(PoolControl { eject, ..PoolControl::default() }.into()),
    }
}

impl Model {
    fn new(endpoints: &[Endpoint]) -> Self {
        let endpoints: BTreeMap<_, _> = (1..).zip(endpoints.iter().copied()).collect();
        let keys = endpoints.keys().copied();
        let pool = pool("10.96.0.10:80", 0, Duration::from_secs(1), keys);
        let mut ejections = Ejections::default();
        ejections.follow(&pool);
        Self {
            ejections,
            servers: 1,
            pool: pool.into(),
            counted: endpoints.keys().map(|last| (*last, Counted::default())).collect(),
            added_up: BTreeMap::new(),
            endpoints,
            out: BTreeSet::new(),
            owing: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            steps: 0,
            start: Instant::now(),
            dumps: (0, 0),
            changes: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + STEP * self.steps
    }

    fn connect(&mut self, last: u8) {
        let Some(counted) = self.counted.get_mut(&last) else { return };
        counted.connections += 1;
        match self.endpoints.get(&last) {
            Some(Endpoint::Dead) | None => self.owing.insert(last),
            Some(_) => self.owing.remove(&last),
        };
        match self.endpoints.get(&last) {
            Some(Endpoint::Answers) => counted.packets_out += 4,
            Some(Endpoint::AnswersOnce) => (counted.packets_out += 1, counted.active += 1).0,
            Some(Endpoint::Stays) => (counted.packets_out += 2, counted.active += 1).0,
            _ => counted.active += 1,
        }
    }

    /// Lets a tenth of a second pass; `connections` begin at each real server with a weight.
    fn step(&mut self, connections: u32) {
        let serving: Vec<_> =
            self.endpoints.keys().copied().filter(|it| !self.out.contains(it)).collect();
        for last in serving {
            (0..connections).for_each(|_| self.connect(last));
        }
        self.steps += 1;
        let now = self.now();
        self.unanswered.extend(self.owing.iter().map(|last| (*last, now)));
        if self.steps % 20 == 7 {
            self.added_up = self.counted.clone();
        }
        self.sample();
    }

    fn sample(&mut self) {
        let now = self.now();
        if self.ejections.next_due().is_some_and(|due| due > now) {
            return;
        }
        let Some(targets) = self.ejections.poll(now, self.servers) else { return };
        let server = self.pool.server.address;
        if targets.servers {
            self.dumps.0 += 1;
            let all = self.added_up.values().map(|it| it.connections).sum();
            self.ejections.watch(&[(server, all)], now);
        }
        if targets.real_servers.is_empty() {
            return;
        }
        self.dumps.1 += 1;
        let counters = self.counted.iter().map(|(last, counted)| {
            let old = self.added_up.get(last).copied().unwrap_or_default();
            RealCounters {
                backend: backend(*last).socket(),
                connections: old.connections,
                packets_out: old.packets_out,
                active: counted.active,
            }
        });
        let counters: Vec<_> = counters.collect();
        let out: BTreeSet<_> = self.out.iter().map(|last| backend(*last).socket()).collect();
        let changes = self.ejections.judge(&self.pool, &counters, |it| out.contains(it), now);
        for change in changes {
            let last =
                *self.endpoints.keys().find(|it| backend(**it) == change.backend).expect("known");
            if change.is_out() {
                self.out.insert(last)
            } else {
                self.out.remove(&last)
            };
            self.changes.push((last, change.change));
        }
    }

    fn run(&mut self, seconds: u32, connections: u32) {
        (0..seconds * 10).for_each(|_| self.step(connections));
    }

    fn count(&self, is: fn(&EjectionChange) -> bool) -> usize {
        self.changes.iter().filter(|(_, change)| is(change)).count()
    }
}

fn is_ejection(change: &EjectionChange) -> bool {
    matches!(change, EjectionChange::Ejected { .. })
}

/// Endpoints before and after, and those that are ejected.
type Row<'a> = (&'a str, &'a [Endpoint], &'a [Endpoint], &'a [u8]);

#[test]
fn what_is_ejected() {
    use Endpoint::{Answers, AnswersOnce, Dead, Stays};
    let table: [Row<'_>; 9] = [
        ("one of three dies", &[Answers; 3], &[Answers, Dead, Answers], &[2]),
        ("one of two dies", &[Answers; 2], &[Dead, Answers], &[1]),
        ("the only one dies", &[Answers], &[Dead], &[]),
        ("all live", &[Answers; 3], &[Answers; 3], &[]),
        ("half-open scans", &[AnswersOnce; 3], &[AnswersOnce; 3], &[]),
        ("connections that stay", &[Stays; 3], &[Stays, Answers, Stays], &[]),
        ("two of three die", &[Answers; 3], &[Dead, Answers, Dead], &[1]),
        ("two of four die", &[Answers; 4], &[Dead, Answers, Dead, Answers], &[1, 3]),
        ("one has always been dead", &[Answers, Dead], &[Answers, Dead], &[2]),
    ];
    let rows = table.iter().flat_map(|row| [1, 1000].map(|servers| (row, servers)));
    for ((name, before, after, expected), servers) in rows {
        let mut model = Model { servers, ..Model::new(before) };
        model.run(10, 1);
        model.endpoints = (1..).zip(after.iter().copied()).collect();
        model.run(10, 1);
        let ejected: BTreeSet<_> =
            model.changes.iter().filter(|(_, it)| is_ejection(it)).map(|(last, _)| *last).collect();
        assert_eq!(
            ejected.into_iter().collect::<Vec<_>>(),
            *expected,
            "{name}: {:?}",
            model.changes
        );
    }
}

#[test]
fn if_no_endpoint_has_answered_lately_none_is_ejected() {
    let mut model = Model::new(&[Endpoint::Dead; 3]);
    model.run(120, 1);
    assert_eq!(model.changes, []);
}

#[test]
fn fewer_than_three_connections_are_no_evidence() {
    let mut model = Model::new(&[Endpoint::Answers, Endpoint::Dead]);
    for connections in [1, 1, 0] {
        model.step(connections);
        model.run(30, 0);
        model.connect(1);
    }
    assert_eq!(model.changes, []);
    model.step(1);
    model.connect(1);
    model.run(30, 0);
    assert_eq!(model.count(is_ejection), 1);
}

#[test]
fn bursts_at_any_moment_of_the_kernels_clock_are_no_evidence() {
    // The SYNs of a burst are in the counters, and their answers are not yet.
    for phase in 0..20 {
        let mut model = Model::new(&[Endpoint::Answers; 2]);
        model.run(10, 0);
        (0..phase).for_each(|_| model.step(0));
        for round in 0..10 {
            let before = model.counted.clone();
            (0..8).for_each(|_| model.connect(1 + round % 2));
            let after = std::mem::replace(&mut model.counted, before);
            for (last, counted) in &mut model.counted {
                let after = after[last];
                (counted.connections, counted.active) = (after.connections, counted.active + 8);
            }
            model.step(0);
            model.counted = after;
            model.run(3, 0);
        }
        assert_eq!(model.changes, [], "phase {phase}");
    }
}

#[test]
fn a_dead_endpoint_is_tried_less_and_less_often_until_it_answers() {
    let mut model = Model::new(&[Endpoint::Answers, Endpoint::Answers]);
    model.run(10, 2);
    let died = model.now();
    model.endpoints.insert(2, Endpoint::Dead);
    let mut tried = Vec::new();
    while model.now() < died + Duration::from_secs(300) {
        let before = model.changes.len();
        model.step(2);
        if model.changes[before..].iter().any(|(_, it)| *it == EjectionChange::Tried) {
            tried.push((model.now() - died).as_secs());
        }
    }
    let gaps: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(model.count(is_ejection), 1, "trials are no new ejections");
    // Between the end of a trial and the next one.
    let expected = [4, 8, 16, 32, 60, 60];
    let fits = gaps.iter().zip(expected).all(|(gap, wait)| (wait..wait + 2).contains(gap));
    assert!(fits && gaps.len() >= expected.len() && tried[0] <= 7, "{tried:?}");
    let connections = model.counted[&2].connections;
    model.endpoints.insert(2, Endpoint::Answers);
    model.run(70, 2);
    assert_eq!(model.changes.last(), Some(&(2, EjectionChange::Restored)));
    assert!(model.counted[&2].connections > connections && model.out.is_empty());
}

#[test]
fn a_changed_endpoint_forgets_its_ejection() {
    let mut model = Model::new(&[Endpoint::Answers, Endpoint::Dead]);
    model.run(10, 1);
    assert_eq!(model.count(is_ejection), 1);
    // The weights no longer have it, so the kernel has its weight.
    model.out.clear();
    model.changes.clear();
    model.endpoints.insert(2, Endpoint::Answers);
    model.run(20, 1);
    assert_eq!(model.changes, []);
    // One that leaves and returns is a new one.
    model.endpoints.insert(2, Endpoint::Dead);
    model.run(10, 1);
    assert_eq!(model.count(is_ejection), 1);
    let whole = Shared::clone(&model.pool);
    model.pool = pool("10.96.0.10:80", 0, Duration::from_secs(1), 1..2).into();
    model.run(2, 1);
    model.pool = whole;
    model.out.clear();
    model.changes.clear();
    model.run(2, 0);
    assert_eq!(model.changes, []);
}

#[test]
fn nothing_is_read_without_a_pool_that_asks_for_it_and_little_without_traffic() {
    let second = Duration::from_secs(1);
    let mut ejections = Ejections::default();
    let none = [
        pool("10.96.0.10:80", 0, Duration::ZERO, 1..3),
        pool("10.96.0.10:80/udp", 0, second, 1..3),
        pool("10.96.0.10:80/sctp", 0, second, 1..3),
        pool("10.96.0.10:80/udp", VirtualServer::FLAG_ONE_PACKET, second, 1..3),
    ];
    none.iter().for_each(|pool| ejections.follow(pool));
    assert_eq!((ejections.poll(Instant::now(), 1), ejections.next_due()), (None, None));

    let mut model = Model::new(&[Endpoint::Answers; 2]);
    model.run(10, 0);
    assert_eq!(model.dumps, (10, 0));
    model.run(10, 1);
    let (servers, real_servers) = model.dumps;
    assert!(servers == 20 && (14..=20).contains(&real_servers), "{:?}", model.dumps);
    model.run(20, 0);
    let idle = model.dumps;
    model.run(10, 0);
    assert_eq!(model.dumps, (idle.0 + 10, idle.1));
    model.ejections.leave(&model.pool.server.address);
    assert_eq!(model.ejections.next_due(), None);

    // The list of many virtual servers is not read for one.
    let mut model = Model { servers: 1000, ..Model::new(&[Endpoint::Answers; 2]) };
    model.run(10, 0);
    assert_eq!(model.dumps, (0, 10));
    model.run(10, 1);
    assert!((28..=30).contains(&model.dumps.1), "{:?}", model.dumps);
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    use Endpoint::{Answers, AnswersOnce, Dead, Stays};
    prop::sample::select(vec![Answers, Stays, AnswersOnce, Dead, Dead])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever endpoints do, enough of them serve, none that has answered its last connection
    /// is ejected, and every ejection ends once the endpoint answers.
    #[test]
    fn enough_serve_and_every_ejection_ends(
        first in vec(endpoint(), 1..7),
        phases in vec((vec(endpoint(), 6), 1..80_u32, 0..3_u32), 1..8),
    ) {
        let mut model = Model::new(&first);
        let count = first.len();
        for (endpoints, tenths, connections) in phases {
            model.endpoints = (1..).zip(endpoints.into_iter().take(count)).collect();
            for _ in 0..tenths {
                let changed = model.changes.len();
                model.step(connections);
                prop_assert!(model.out.len() <= count / 2 && model.out.len() < count);
                for (last, change) in &model.changes[changed..] {
                    // The kernel shows a later answer only once it has added up.
                    let lately = model.now() - ADDED_UP;
                    let is_silent = model.unanswered.get(last).is_some_and(|at| *at >= lately);
                    prop_assert!(is_silent || !is_ejection(change), "{last} {change:?}");
                }
            }
        }
        model.endpoints.values_mut().for_each(|it| *it = Endpoint::Answers);
        model.run(70, 1);
        prop_assert!(model.out.is_empty());
        model.changes.clear();
        model.run(10, 1);
        prop_assert_eq!(&model.changes, &[]);
    }
}
