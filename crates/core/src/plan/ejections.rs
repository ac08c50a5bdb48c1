//! Real servers that do not answer, and get no new connections until they do.
//!
//! The kernel counts for each real server its connections and the packets that it has sent. An
//! endpoint that lives answers every connection at once: the SYN-ACK is a packet out, whether a
//! process accepts the connection or not, and a reset is one, too. The counters therefore show a dead
//! endpoint without a probe. A scan with half-open connections never makes a live endpoint look dead.
//!
//! The counters are old: IPVS adds up those of its processors every two seconds, both counters of a
//! real server at the same moment (`net/netfilter/ipvs/ip_vs_est.c`). The number of present
//! connections is up to date. It shows when connections have begun, and the counters show later
//! whether any of them was answered.
//!
//! An ejected real server has weight 0. It is tried after 2, 4, 8 … seconds: it has its weight again
//! until three more connections have begun. The first answer ends the ejection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::model::{Backend, Pool, VirtualAddress};

/// The unanswered connections that make a real server suspect, and that a trial needs.
const ENOUGH: u64 = 3;
/// The interval of reading the virtual servers, and real servers without new connections.
const PERIOD: Duration = Duration::from_secs(1);
/// The interval of reading the real servers of virtual servers with new connections.
const WATCHED: Duration = Duration::from_millis(500);
/// The same while a real server is on trial, because clients pay for trials.
const ON_TRIAL: Duration = Duration::from_millis(100);
/// How long the real servers of a virtual server are read after its last new connection.
const ATTENTION: Duration = Duration::from_secs(5);
/// How long a live endpoint takes to answer at most, on any path within a cluster.
const GRACE: Duration = Duration::from_millis(500);
/// The kernel has added up its counters within this time, even if it is late.
const ADDED_UP: Duration = Duration::from_secs(5);
/// How long an answer shows that a real server, and the way to it, have worked lately.
const LATELY: Duration = Duration::from_secs(60);
const FIRST_TRIAL: Duration = Duration::from_secs(2);
const LONGEST_TRIAL: Duration = Duration::from_secs(60);

/// The counters to read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SampleTargets {
    /// Whether to read the virtual servers.
    pub servers: bool,
    /// The virtual servers with real servers to read.
    pub real_servers: Vec<VirtualAddress>,
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sample {
    /// The connections of each virtual server since the kernel created it.
    pub servers: Vec<(VirtualAddress, u64)>,
    /// The counters of the real servers of virtual servers.
    pub real_servers: Vec<(VirtualAddress, Vec<RealCounters>)>,
}

/// The counters of a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RealCounters {
    pub backend: SocketAddr,
    /// Since the kernel created it, as of the last time the kernel added its counters up.
    pub connections: u64,
    /// Packets to clients, likewise.
    pub packets_out: u64,
    /// Connections that have not ended, as of now.
    pub active: u32,
}

/// A change of a real server's ejection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ejection {
    pub server: VirtualAddress,
    /// With its desired weight.
    pub backend: Backend,
    pub change: EjectionChange,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EjectionChange {
    /// It has not answered these connections for this time.
    Ejected { connections: u64, silent: Duration },
    /// It has its weight again for a few connections.
    Tried,
    /// It has not answered them.
    Failed,
    /// It has answered.
    Restored,
}

impl Ejection {
    /// Returns whether the real server has weight 0 after the change.
    #[must_use]
    pub fn is_out(&self) -> bool {
        matches!(self.change, EjectionChange::Ejected { .. } | EjectionChange::Failed)
    }
}

/// Whether a real server takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    In,
    /// With weight 0 until the next trial; `wait` is the time between the trials.
    Out {
        until: Instant,
        wait: Duration,
    },
    Trial {
        wait: Duration,
    },
}

/// What is known of a real server.
#[derive(Clone, Copy, Debug)]
struct Record {
    last: RealCounters,
    /// Connections and present connections when it last answered.
    answered_by: (u64, u32),
    answered: Option<Instant>,
    /// Since when there are enough unanswered connections.
    silent: Option<Instant>,
    /// The kernel has added up since, and has found no answer.
    is_dead: bool,
    standing: Standing,
}

impl Record {
    fn new(counters: RealCounters) -> Self {
        let has_never_answered = counters.packets_out == 0;
        Self {
            last: counters,
            answered_by: match has_never_answered {
                true => (0, 0),
                false => (counters.connections, counters.active),
            },
            answered: None,
            silent: None,
            is_dead: false,
            standing: Standing::In,
        }
    }

    /// Returns the connections since the last answer, as far as the kernel has added up.
    fn unanswered(&self) -> u64 {
        self.last.connections.saturating_sub(self.answered_by.0)
    }

    /// Forgets the connections so far.
    fn reset(&mut self) {
        self.answered_by = (self.last.connections, self.last.active);
        self.silent = None;
        self.is_dead = false;
    }

    /// Takes counters; the ones before are of `previous`. Returns whether it has answered.
    fn take(
        &mut self,
        counters: RealCounters,
        after: Duration,
        previous: Instant,
        now: Instant,
    ) -> bool {
        let before = std::mem::replace(&mut self.last, counters);
        if counters.connections < before.connections || counters.packets_out < before.packets_out {
            // The kernel has created it again.
            self.reset();
            return false;
        }
        if counters.packets_out > before.packets_out {
            self.reset();
            self.answered = Some(now);
            return true;
        }
        let present = &mut self.answered_by.1;
        *present = counters.active.min(*present);
        let begun = u64::from(counters.active - *present);
        if self.unanswered().max(begun) < ENOUGH {
            return false;
        }
        let since = *self.silent.get_or_insert(now);
        // What has begun before the previous reading is in the counters, if they have changed after
        // it, or if enough time has passed.
        let is_added_up = (counters.connections > before.connections && since + GRACE <= previous)
            || since + ADDED_UP <= previous;
        self.is_dead |= self.unanswered() >= ENOUGH && is_added_up && since + after <= now;
        false
    }

    fn may_eject(&self) -> bool {
        self.is_dead && self.standing == Standing::In
    }
}

/// A pool that asks for ejection.
#[derive(Debug, Default)]
struct Watched {
    connections: Option<u64>,
    /// Until when its real servers are read.
    until: Option<Instant>,
    read: Option<Instant>,
    records: BTreeMap<SocketAddr, Record>,
}

impl Watched {
    /// Returns the interval of reading its real servers; `None` if there is no reason to read them.
    fn interval(&self, now: Instant) -> Option<Duration> {
        let any = |is: fn(&Record) -> bool| self.records.values().any(is);
        if self.until.is_some_and(|until| now < until) {
            let is_trial = any(|record| matches!(record.standing, Standing::Trial { .. }));
            Some(if is_trial { ON_TRIAL } else { WATCHED })
        } else {
            let is_open = any(|record| {
                record.standing != Standing::In || (record.silent.is_some() && !record.is_dead)
            });
            is_open.then_some(PERIOD)
        }
    }
}

/// The pools that ask for ejection.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    pools: FxHashMap<VirtualAddress, Watched>,
    /// When virtual servers, and real servers, are read next.
    due: [Option<Instant>; 2],
}

impl Ejections {
    /// Follows a desired pool if it asks for that.
    pub(super) fn follow(&mut self, pool: &Pool) {
        if pool.eject_after().is_some() {
            self.pools.entry(pool.server.address).or_default();
        } else {
            self.leave(&pool.server.address);
        }
    }

    pub(super) fn leave(&mut self, server: &VirtualAddress) {
        self.pools.remove(server);
    }

    /// Forgets everything that was read.
    pub(super) fn restart(&mut self) {
        self.pools.values_mut().for_each(|pool| *pool = Watched::default());
    }

    /// Returns when a sample is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.due.iter().flatten().min().copied();
        due.filter(|_| !self.pools.is_empty())
    }

    /// Returns the counters to read if a sample is due, and schedules the next one.
    pub(super) fn poll(&mut self, now: Instant) -> Option<SampleTargets> {
        if self.pools.is_empty() {
            return None;
        }
        let [servers, real_servers] = self.due.map(|due| due.is_none_or(|due| due <= now));
        if !servers && (!real_servers || self.due[1].is_none()) {
            return None;
        }
        let mut targets = SampleTargets { servers, real_servers: Vec::new() };
        let mut least = None;
        for (address, pool) in &self.pools {
            let Some(interval) = pool.interval(now) else { continue };
            let due = pool.read.map_or(now, |read| read + interval);
            let next = if due <= now { now + interval } else { due };
            least = Some(least.map_or(next, |least: Instant| least.min(next)));
            if due <= now {
                targets.real_servers.push(*address);
            }
        }
        if servers {
            self.due[0] = Some(now + PERIOD);
        }
        self.due[1] = least;
        targets.real_servers.sort_unstable();
        (targets != SampleTargets::default()).then_some(targets)
    }

    /// Takes the connections of virtual servers. The real servers of those with new ones are read
    /// from now on.
    pub(super) fn watch(&mut self, servers: &[(VirtualAddress, u64)], now: Instant) {
        for (server, connections) in servers {
            let Some(pool) = self.pools.get_mut(server) else { continue };
            let before = pool.connections.replace(*connections);
            if before.is_some_and(|before| before < *connections) {
                pool.until = Some(now + ATTENTION);
                self.due[1] = Some(now);
            }
        }
    }

    /// Takes the counters of a pool's real servers. Returns what changes.
    ///
    /// Of `n` serving real servers at most `n / 2` are ejected, those with the most unanswered
    /// connections first, so the last one never is. A real server is ejected only if another one has
    /// answered since, or it has itself lately: if none answers, the reason is elsewhere.
    pub(super) fn judge(
        &mut self,
        desired: &Pool,
        counters: &[RealCounters],
        is_ejected: impl Fn(&SocketAddr) -> bool,
        now: Instant,
    ) -> Vec<Ejection> {
        let server = desired.server.address;
        let pool = self.pools.get_mut(&server).zip(desired.eject_after());
        let Some((Watched { read, records, .. }, after)) = pool else { return Vec::new() };
        let previous = read.replace(now).unwrap_or(now);
        let serving = desired.backends.iter().filter(|backend| !backend.is_draining());
        let serving: BTreeMap<_, _> = serving.map(|it| (it.socket(), *it)).collect();
        records.retain(|backend, _| serving.contains_key(backend));
        let mut changes = Vec::new();
        for counters in counters {
            let Some(backend) = serving.get(&counters.backend) else { continue };
            let Some(record) = records.get_mut(&counters.backend) else {
                records.insert(counters.backend, Record::new(*counters));
                continue;
            };
            if matches!(record.standing, Standing::Out { .. }) && !is_ejected(&counters.backend) {
                // The API has changed the endpoint.
                *record = Record::new(*counters);
                continue;
            }
            let has_answered = record.take(*counters, after, previous, now);
            let change = match record.standing {
                Standing::In => continue,
                _ if has_answered => {
                    record.standing = Standing::In;
                    EjectionChange::Restored
                }
                Standing::Out { until, wait } if until <= now => {
                    record.standing = Standing::Trial { wait };
                    record.reset();
                    EjectionChange::Tried
                }
                Standing::Trial { wait } if record.silent.is_some() => {
                    let wait = (wait * 2).min(LONGEST_TRIAL);
                    record.standing = Standing::Out { until: now + wait, wait };
                    EjectionChange::Failed
                }
                Standing::Out { .. } | Standing::Trial { .. } => continue,
            };
            changes.push(Ejection { server, backend: *backend, change });
        }
        let out = records.values().filter(|record| record.standing != Standing::In).count();
        let room = (serving.len() / 2).saturating_sub(out);
        let latest = records.values().filter_map(|record| record.answered).max();
        let has_cause = |record: &Record| {
            let others = latest.is_some_and(|latest| record.silent.is_some_and(|it| it <= latest));
            others || record.answered.is_some_and(|answered| now < answered + LATELY)
        };
        let dead = records.iter_mut().filter(|(_, it)| it.may_eject() && has_cause(it));
        let mut dead: Vec<_> = dead.collect();
        dead.sort_by_key(|(_, record)| std::cmp::Reverse(record.unanswered()));
        for (socket, record) in dead.into_iter().take(room) {
            let Some(backend) = serving.get(socket) else { continue };
            let silent = record.silent.map_or(Duration::ZERO, |since| now - since);
            let connections = record.unanswered();
            record.standing = Standing::Out { until: now + FIRST_TRIAL, wait: FIRST_TRIAL };
            let change = EjectionChange::Ejected { connections, silent };
            changes.push(Ejection { server, backend: *backend, change });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
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
        pool: Shared<Pool>,
        endpoints: BTreeMap<u8, Endpoint>,
        counted: BTreeMap<u8, Counted>,
        added_up: BTreeMap<u8, Counted>,
        out: BTreeSet<u8>,
        steps: u32,
        start: Instant,
        /// Dumps of virtual servers, and of the real servers of one.
        dumps: (usize, usize),
        changes: Vec<(u8, EjectionChange)>,
    }

    fn backend(last: u8) -> Backend {
        Backend { address: [10, 244, 1, last].into(), port: 80, weight: 1, local: false }
    }

    fn pool(
        address: &str,
        flags: u32,
        eject: Duration,
        endpoints: impl Iterator<Item = u8>,
    ) -> Pool {
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
                pool: pool.into(),
                counted: endpoints.keys().map(|last| (*last, Counted::default())).collect(),
                added_up: BTreeMap::new(),
                endpoints,
                out: BTreeSet::new(),
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
            let Some(targets) = self.ejections.poll(now) else { return };
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
                let last = *self
                    .endpoints
                    .keys()
                    .find(|it| backend(**it) == change.backend)
                    .expect("known");
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
        for (name, before, after, expected) in table {
            let mut model = Model::new(before);
            model.run(10, 1);
            model.endpoints = (1..).zip(after.iter().copied()).collect();
            model.run(10, 1);
            let ejected: BTreeSet<_> = model
                .changes
                .iter()
                .filter(|(_, it)| is_ejection(it))
                .map(|(last, _)| *last)
                .collect();
            assert_eq!(
                ejected.into_iter().collect::<Vec<_>>(),
                expected,
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
        assert_eq!((ejections.poll(Instant::now()), ejections.next_due()), (None, None));

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
    }

    fn endpoint() -> impl Strategy<Value = Endpoint> {
        use Endpoint::{Answers, AnswersOnce, Dead, Stays};
        prop::sample::select(vec![Answers, Stays, AnswersOnce, Dead, Dead])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever endpoints do, enough of them serve, none that answers is ejected, and every
        /// ejection ends once the endpoint answers.
        #[test]
        fn enough_serve_and_every_ejection_ends(
            first in vec(endpoint(), 1..7),
            phases in vec((vec(endpoint(), 6), 1..80_u32, 0..3_u32), 1..8),
        ) {
            let mut model = Model::new(&first);
            let count = first.len();
            for (endpoints, tenths, connections) in phases {
                let endpoints = (1..).zip(endpoints.into_iter().take(count)).collect();
                let before = std::mem::replace(&mut model.endpoints, endpoints);
                for _ in 0..tenths {
                    let changed = model.changes.len();
                    model.step(connections);
                    prop_assert!(model.out.len() <= count / 2 && model.out.len() < count);
                    for (last, change) in &model.changes[changed..] {
                        let has_died = [&before, &model.endpoints]
                            .map(|endpoints| endpoints[last]).contains(&Endpoint::Dead);
                        prop_assert!(has_died || !is_ejection(change), "{last} {change:?}");
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
}
