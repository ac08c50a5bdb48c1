//! Real servers that are no longer desired but still have connections.
//!
//! They stay in the kernel with weight 0: they get no new connections, and established ones
//! continue until they end or until a deadline. IPVS sees only the first packet of most
//! connections, so the remaining ones are counted in connection tracking.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::token_bucket::TokenBucket;
use super::{Carrier, FlowOperation};
use crate::model::{Backend, Protocol, Shared, VirtualAddress};

/// The wait before the first count; doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The deadline of connections that may continue without limit.
const UNLIMITED: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// The least pause after a count, as a multiple of its duration.
const REST: u32 = 9;

/// The targets of a count of connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CountTargets {
    pub backends: FxHashSet<(Protocol, SocketAddr)>,
    /// Front ends, each at the exact address that clients use.
    pub frontends: FxHashSet<VirtualAddress>,
}

/// Open connections through one front end to one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    pub frontend: VirtualAddress,
    pub backend: SocketAddr,
    pub carrier: Carrier,
    pub count: u64,
}

#[derive(Debug)]
struct DrainingServer {
    backend: Backend,
    until: Instant,
    /// The front ends with connections to it, and their carriers; `None` before the first count.
    running: Option<BTreeSet<(VirtualAddress, Carrier)>>,
}

impl DrainingServer {
    /// Returns whether the real server may be removed: it has no connections, or the deadline has
    /// passed and they are known.
    fn ends(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|running| running.is_empty() || self.until <= now)
    }
}

type Drain = BTreeMap<SocketAddr, DrainingServer>;

/// The draining real servers of all virtual servers.
#[derive(Debug, Default)]
pub(super) struct Drains {
    period: Duration,
    by_server: BTreeMap<VirtualAddress, Drain>,
    deadlines: BTreeSet<(Instant, VirtualAddress)>,
    counts: Counts,
    /// Virtual servers with real servers to remove now.
    ended: BTreeSet<VirtualAddress>,
    count: usize,
    /// Connection-tracking entries of connections past their deadline.
    flows: Vec<FlowOperation>,
    token_bucket: TokenBucket,
}

/// The schedule of counts. A count covers everything, because the kernel walks its whole table each
/// time.
#[derive(Debug)]
pub struct Counts {
    due: Option<Instant>,
    wait: Duration,
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { due: None, wait: FIRST_WAIT, began: None, ended: None }
    }
}

impl Counts {
    /// Restarts the schedule when something begins to drain.
    pub fn restart(&mut self, now: Instant) {
        self.wait = FIRST_WAIT;
        self.schedule(now + FIRST_WAIT);
    }

    /// Schedules a count at `at`, but never within a second of the last one.
    pub fn schedule(&mut self, at: Instant) {
        let at = at.max(self.ended.map_or(at, |ended| ended + FIRST_WAIT));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Returns whether a count is due. The following one is scheduled after this one ends.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            // A failed count is repeated.
            self.due = Some(now + self.wait);
            self.began = Some(now);
        }
        is_due
    }

    /// Records the end of a count. A long count is followed by a long pause.
    pub fn done(&mut self, now: Instant) {
        let took = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.ended = Some(now);
        self.due = Some(now + self.wait.max(took * REST));
    }

    /// Ends the schedule when nothing drains.
    pub fn stop(&mut self) {
        self.due = None;
    }

    /// Returns when the next count is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Drains {
    pub(super) fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Updates the draining real servers of a virtual server to `backends`. Returns those to remove
    /// now, and those whose connections end first, for at most `period` instead of the usual one. With
    /// `yields`, another program has the address, and no real server waits for its connections.
    pub(super) fn update(
        &mut self,
        server: VirtualAddress,
        backends: Vec<Backend>,
        period: Option<Duration>,
        yields: bool,
        now: Instant,
    ) -> (Vec<Backend>, Vec<Backend>) {
        let mut known = self.remove(&server).unwrap_or_default();
        let mut drain = Drain::new();
        let has_ended = |backend: &Backend| {
            let socket = backend.socket();
            let mut draining = known.remove(&socket).unwrap_or_else(|| {
                // UDP datagrams belong to no connection that could break, so they need no time.
                let (period, running) = match server.protocol {
                    Protocol::Udp => (Duration::ZERO, Some(BTreeSet::new())),
                    Protocol::Tcp | Protocol::Sctp => (period.unwrap_or(self.period), None),
                };
                let until = now + period.min(UNLIMITED);
                if running.is_none() {
                    self.counts.restart(now);
                    self.counts.schedule(until);
                }
                DrainingServer { backend: backend.drained(), until, running }
            });
            if yields {
                draining.running.get_or_insert_default();
                draining.until = now;
            }
            if draining.ends(now) && self.token_bucket.take(server, 1, now) {
                let running = draining.running.into_iter().flatten();
                let flow = |(frontend, carrier)| FlowOperation {
                    frontend,
                    backend: Some(socket),
                    carrier: Some(carrier),
                };
                self.flows.extend(running.map(flow));
                return true;
            }
            drain.insert(socket, draining);
            false
        };
        let both = backends.into_iter().partition(has_ended);
        if !drain.is_empty() {
            self.count += drain.len();
            self.deadlines.extend(drain.values().map(|draining| (draining.until, server)));
            self.by_server.insert(server, drain);
        }
        both
    }

    pub(super) fn of(&self, server: &VirtualAddress) -> Option<Shared<[Backend]>> {
        let drain = self.by_server.get(server)?;
        Some(drain.values().map(|draining| draining.backend).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.by_server
            .iter()
            .flat_map(|(server, drain)| drain.values().map(move |it| (server, &it.backend)))
    }

    pub(super) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    pub(super) fn sockets(&self) -> FxHashSet<(Protocol, SocketAddr)> {
        let drains = self.by_server.iter();
        let sockets = drains.flat_map(|(server, drain)| drain.keys().map(move |it| (server, it)));
        sockets.map(|(server, socket)| (server.protocol, *socket)).collect()
    }

    /// Returns when the next count is due or more removals are possible.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.counts.due().into_iter().chain(self.token_bucket.next_due()).min()
    }

    /// Takes the open connections, each with the virtual servers that its front end uses or used.
    /// Other real servers have no connections left.
    pub(super) fn count(&mut self, running: &[(Running, Vec<VirtualAddress>)], now: Instant) {
        for draining in self.by_server.values_mut().flat_map(BTreeMap::values_mut) {
            draining.running = Some(BTreeSet::new());
        }
        for (running, servers) in running {
            for server in servers {
                let drain = self.by_server.get_mut(server);
                if let Some(draining) = drain.and_then(|drain| drain.get_mut(&running.backend)) {
                    let through = (running.frontend, running.carrier);
                    draining.running.get_or_insert_default().insert(through);
                }
            }
        }
        let ends = |drain: &Drain| drain.values().any(|draining| draining.ends(now));
        let ended = self.by_server.iter().filter(|(_, drain)| ends(drain));
        self.ended.extend(ended.map(|(server, _)| *server));
        if let Some((until, _)) = self.deadlines.iter().find(|(until, _)| *until > now) {
            self.counts.schedule(*until);
        }
    }

    pub(super) fn take_ended(&mut self, now: Instant) -> BTreeSet<VirtualAddress> {
        let mut ended = mem::take(&mut self.ended);
        ended.extend(self.token_bucket.take_due(now));
        ended
    }

    /// Returns the connection-tracking entries to remove, whose real servers are removed.
    pub(super) fn take_flows(&mut self) -> Vec<FlowOperation> {
        mem::take(&mut self.flows)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn forget(&mut self, server: &VirtualAddress) {
        self.remove(server);
    }

    fn remove(&mut self, server: &VirtualAddress) -> Option<Drain> {
        let drain = self.by_server.remove(server)?;
        self.count -= drain.len();
        for draining in drain.values() {
            self.deadlines.remove(&(draining.until, *server));
        }
        self.ended.remove(server);
        Some(drain)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PERIOD: Duration = Duration::from_secs(300);

    fn of_period(period: Duration) -> Drains {
        Drains { period, ..Drains::default() }
    }

    fn server(text: &str) -> VirtualAddress {
        text.parse().unwrap()
    }

    fn backend(last: u8) -> Backend {
        Backend { address: [10, 244, 1, last].into(), port: 80, weight: 1, local: false }
    }

    /// Returns for each of `backends` whether it is removed now.
    fn update(
        drains: &mut Drains,
        server: VirtualAddress,
        backends: &[Backend],
        yields: bool,
        now: Instant,
    ) -> Vec<bool> {
        let (removed, _) = drains.update(server, backends.to_vec(), None, yields, now);
        backends.iter().map(|backend| removed.contains(backend)).collect()
    }

    fn running(
        frontend: &str,
        last: u8,
        servers: &[VirtualAddress],
    ) -> (Running, Vec<VirtualAddress>) {
        let backend = SocketAddr::new(backend(last).address, 80);
        let carrier = Carrier::Tracking;
        (Running { frontend: server(frontend), backend, carrier, count: 1 }, servers.to_vec())
    }

    #[test]
    fn a_backend_is_removed_without_connections_or_after_the_drain_period() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        let both = [backend(1), backend(2)];
        assert_eq!(update(&mut drains, web, &both, false, start), [false; 2]);
        assert_eq!(drains.of(&web).unwrap().iter().map(|it| it.weight).sum::<u32>(), 0);

        let runs = [running("203.0.113.7:80", 2, &[web])];
        drains.count(&runs, start);
        assert_eq!(drains.take_ended(start), [web].into());
        assert_eq!(update(&mut drains, web, &both, false, start), [true, false]);
        assert_eq!(drains.take_flows(), []);
        let end = start + PERIOD;
        drains.count(&runs, end);
        assert_eq!(drains.take_ended(end), [web].into());
        assert_eq!(update(&mut drains, web, &both[1..], false, end), [true]);
        let Running { frontend, backend, carrier, .. } = runs[0].0;
        let (backend, carrier) = (Some(backend), Some(carrier));
        let flow = FlowOperation { frontend, backend, carrier };
        assert_eq!(drains.take_flows(), [flow]);
        assert_eq!(drains.len(), 0);
    }

    #[test]
    fn a_backend_that_returns_gets_a_full_drain_period_again() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        let runs = [running("10.96.0.1:80", 1, &[web])];
        update(&mut drains, web, &[backend(1)], false, start);
        update(&mut drains, web, &[], false, start);
        let later = start + PERIOD / 2;
        update(&mut drains, web, &[backend(1)], false, later);
        drains.count(&runs, start + PERIOD);
        assert_eq!(update(&mut drains, web, &[backend(1)], false, start + PERIOD), [false]);
        drains.count(&runs, later + PERIOD);
        assert_eq!(update(&mut drains, web, &[backend(1)], false, later + PERIOD), [true]);
    }

    #[test]
    fn no_backend_drains_at_an_address_with_another_owner() {
        let dns = server("10.96.0.10:53/tcp");
        let now = Instant::now();
        let mut drains = of_period(PERIOD);
        assert_eq!(update(&mut drains, dns, &[backend(1)], false, now), [false]);
        drains.count(&[running("10.96.0.10:53", 1, &[dns])], now);
        assert_eq!(update(&mut drains, dns, &[backend(1), backend(2)], true, now), [true; 2]);
        // Open connections are ended and not left to the other program.
        assert_eq!(drains.take_flows().len(), 1);
        assert_eq!(drains.len(), 0);
    }

    #[test]
    fn udp_moves_at_once_and_tcp_without_a_drain_period_when_counted() {
        let now = Instant::now();
        let mut drains = of_period(PERIOD);
        let dns = server("10.96.0.10:53/udp");
        assert_eq!(update(&mut drains, dns, &[backend(1)], false, now), [true]);
        let mut drains = of_period(Duration::ZERO);
        let web = server("10.96.0.1:80/tcp");
        assert_eq!(update(&mut drains, web, &[backend(1)], false, now), [false]);
        assert!(drains.counts().take_due(now));
        drains.count(&[], now);
        assert_eq!(update(&mut drains, web, &[backend(1)], false, now), [true]);
    }

    #[test]
    fn many_udp_endpoints_are_removed_gradually() {
        let mut now = Instant::now();
        let mut drains = of_period(PERIOD);
        let dns = |port| VirtualAddress { port, ..server("10.96.0.10:53/udp") };
        let mut waiting: Vec<_> = (0..1_000).collect();
        let mut turns = Vec::new();
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|port| {
                update(&mut drains, dns(*port), &[backend(1)], false, now) == [false]
            });
            assert_eq!(drains.len(), waiting.len());
            turns.push(before - waiting.len());
            now += Duration::from_secs(1);
        }
        assert_eq!(turns, [500, 100, 100, 100, 100, 100]);
    }

    #[test]
    fn counts_of_connections_slow_down() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        update(&mut drains, web, &[backend(1)], false, start);
        let mut seconds = Vec::new();
        let mut now = start;
        while now < start + PERIOD {
            now = drains.next_due().unwrap();
            assert!(drains.counts().take_due(now));
            seconds.push((now - start).as_secs());
            drains.counts().done(now);
            drains.count(&[running("10.96.0.1:80", 1, &[web])], now);
        }
        assert_eq!(seconds[..7], [1, 3, 7, 15, 31, 61, 91]);
        assert_eq!(now, start + PERIOD);
    }

    #[test]
    fn a_slow_count_is_followed_by_a_long_pause() {
        let mut counts = Counts::default();
        let start = Instant::now();
        counts.restart(start);
        assert!(counts.take_due(start + FIRST_WAIT));
        let end = start + FIRST_WAIT + Duration::from_secs(5);
        counts.done(end);
        assert_eq!(counts.due(), Some(end + Duration::from_secs(45)));
    }
}
