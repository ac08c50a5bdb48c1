//! Real servers that are no longer wanted and still have connections.
//!
//! They stay in the kernel with weight 0: no new connection goes to them, established ones go on
//! until they end or a deadline passes. IPVS sees only the first packet of most connections, so
//! those that still run are counted in connection tracking.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use super::token_bucket::TokenBucket;
use super::{Carrier, FlowOperation};
use crate::model::{Backend, Protocol, Shared, VirtualAddress};

/// Wait before connections are counted for the first time; doubles with each further time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two counts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How many times as long as a count takes there is none.
const REST: u32 = 9;

/// Whose connections are to be counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leavers {
    /// Real servers.
    pub backends: FxHashSet<(Protocol, SocketAddr)>,
    /// Front ends, each at the very address that clients sent to.
    pub frontends: FxHashSet<VirtualAddress>,
}

/// Connections to one front end that one endpoint answers, without those that have been closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Running {
    /// Where the clients sent to.
    pub frontend: VirtualAddress,
    /// The endpoint.
    pub backend: SocketAddr,
    /// What carries them.
    pub carrier: Carrier,
    /// How many there are.
    pub count: u64,
}

/// How a real server that is no longer wanted goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leave {
    /// At once.
    Now,
    /// Once its connections have ended.
    Later,
}

#[derive(Debug)]
struct Leaving {
    backend: Backend,
    until: Instant,
    /// The front ends that it has connections through, with what carries these; `None` before the
    /// first count.
    running: Option<BTreeSet<(VirtualAddress, Carrier)>>,
}

impl Leaving {
    /// Whether it goes: its connections have ended, or its time is up and they are known.
    fn ends(&self, now: Instant) -> bool {
        self.running.as_ref().is_some_and(|running| running.is_empty() || self.until <= now)
    }
}

/// The leaving real servers of one virtual server.
type Drain = BTreeMap<SocketAddr, Leaving>;

/// The leaving real servers of all virtual servers.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// How long connections may go on.
    period: Duration,
    by_server: BTreeMap<VirtualAddress, Drain>,
    /// The virtual servers by the deadlines of their real servers.
    deadlines: BTreeSet<(Instant, VirtualAddress)>,
    counts: Counts,
    /// Those with real servers that are to go now.
    ended: BTreeSet<VirtualAddress>,
    /// Leaving real servers of all.
    count: usize,
    /// Entries of connections whose time is up.
    flows: Vec<FlowOperation>,
    token_bucket: TokenBucket,
}

/// When connections are counted: all at once, as the kernel walks its whole table each time.
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
    /// Something begins to leave.
    pub fn hasten(&mut self, now: Instant) {
        self.wait = FIRST_WAIT;
        self.want(now + FIRST_WAIT);
    }

    /// There is to be a count by then, though never within a second of another.
    pub fn want(&mut self, at: Instant) {
        let at = at.max(self.ended.map_or(at, |ended| ended + FIRST_WAIT));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether it is time; the next one is due once this one has come to an end.
    pub fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            // One that fails is tried again.
            self.due = Some(now + self.wait);
            self.began = Some(now);
        }
        is_due
    }

    /// A count has come to an end. Where it took long, there is a long rest.
    pub fn done(&mut self, now: Instant) {
        let took = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.ended = Some(now);
        self.due = Some(now + self.wait.max(took * REST));
    }

    /// Nothing is leaving any more.
    pub fn stop(&mut self) {
        self.due = None;
    }

    /// When the next one is.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Drains {
    /// Established connections to real servers that leave may go on that long.
    pub(super) fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Takes in which real servers of a virtual server are held and not wanted. Says of each how
    /// it goes. None waits for its connections where `yields` says that somebody else has the address.
    pub(super) fn leave(
        &mut self,
        server: VirtualAddress,
        backends: &[Backend],
        yields: bool,
        now: Instant,
    ) -> Vec<Leave> {
        let mut former = self.remove(&server).unwrap_or_default();
        let mut drain = Drain::new();
        let mut decide = |backend: &Backend| {
            let socket = backend.socket();
            let mut leaving = former.remove(&socket).unwrap_or_else(|| {
                // Datagrams belong to no connection that could be broken: they need no time.
                let (period, running) = match server.protocol {
                    Protocol::Udp => (Duration::ZERO, Some(BTreeSet::new())),
                    Protocol::Tcp | Protocol::Sctp => (self.period, None),
                };
                let until = now + period;
                if running.is_none() {
                    self.counts.hasten(now);
                    self.counts.want(until);
                }
                Leaving { backend: backend.drained(), until, running }
            });
            if yields {
                leaving.running.get_or_insert_default();
                leaving.until = now;
            }
            if leaving.ends(now) && self.token_bucket.take(server, 1, now) {
                let running = leaving.running.into_iter().flatten();
                let flow = |(frontend, carrier)| FlowOperation {
                    frontend,
                    backend: Some(socket),
                    carrier: Some(carrier),
                };
                self.flows.extend(running.map(flow));
                return Leave::Now;
            }
            drain.insert(socket, leaving);
            Leave::Later
        };
        let leaves = backends.iter().map(&mut decide).collect();
        if !drain.is_empty() {
            self.count += drain.len();
            self.deadlines.extend(drain.values().map(|leaving| (leaving.until, server)));
            self.by_server.insert(server, drain);
        }
        leaves
    }

    /// The leaving real servers of a virtual server, sorted.
    pub(super) fn of(&self, server: &VirtualAddress) -> Option<Shared<[Backend]>> {
        let drain = self.by_server.get(server)?;
        Some(drain.values().map(|leaving| leaving.backend).collect())
    }

    /// Every leaving real server with its virtual server.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.by_server
            .iter()
            .flat_map(|(server, drain)| drain.values().map(move |it| (server, &it.backend)))
    }

    /// When connections are counted.
    pub(super) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// The real servers whose connections are to be counted.
    pub(super) fn leavers(&self) -> FxHashSet<(Protocol, SocketAddr)> {
        let drains = self.by_server.iter();
        let sockets = drains.flat_map(|(server, drain)| drain.keys().map(move |it| (server, it)));
        sockets.map(|(server, socket)| (server.protocol, *socket)).collect()
    }

    /// When connections are to be counted or more may go, next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.counts.due().into_iter().chain(self.token_bucket.next_due()).min()
    }

    /// Takes in what runs: each with the virtual servers that its front end leads or led to. Those
    /// that are not named have no connection left.
    pub(super) fn count(&mut self, running: &[(Running, Vec<VirtualAddress>)], now: Instant) {
        for leaving in self.by_server.values_mut().flat_map(BTreeMap::values_mut) {
            leaving.running = Some(BTreeSet::new());
        }
        for (running, servers) in running {
            for server in servers {
                let drain = self.by_server.get_mut(server);
                if let Some(leaving) = drain.and_then(|drain| drain.get_mut(&running.backend)) {
                    let through = (running.frontend, running.carrier);
                    leaving.running.get_or_insert_default().insert(through);
                }
            }
        }
        let ends = |drain: &Drain| drain.values().any(|leaving| leaving.ends(now));
        let ended = self.by_server.iter().filter(|(_, drain)| ends(drain));
        self.ended.extend(ended.map(|(server, _)| *server));
        if let Some((until, _)) = self.deadlines.iter().find(|(until, _)| *until > now) {
            self.counts.want(*until);
        }
    }

    /// The virtual servers with real servers that are to go now.
    pub(super) fn take_ended(&mut self, now: Instant) -> BTreeSet<VirtualAddress> {
        let mut ended = mem::take(&mut self.ended);
        ended.extend(self.token_bucket.take_due(now));
        ended
    }

    /// The entries of connections whose time is up and whose real servers go.
    pub(super) fn take_flows(&mut self) -> Vec<FlowOperation> {
        mem::take(&mut self.flows)
    }

    /// How many real servers are leaving.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Forgets a virtual server.
    pub(super) fn forget(&mut self, server: &VirtualAddress) {
        self.remove(server);
    }

    fn remove(&mut self, server: &VirtualAddress) -> Option<Drain> {
        let drain = self.by_server.remove(server)?;
        self.count -= drain.len();
        for leaving in drain.values() {
            self.deadlines.remove(&(leaving.until, *server));
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
    fn one_goes_when_its_connections_have_ended_or_its_time_has_come() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        let both = [backend(1), backend(2)];
        assert_eq!(drains.leave(web, &both, false, start), [Leave::Later; 2]);
        assert_eq!(drains.of(&web).unwrap().iter().map(|it| it.weight).sum::<u16>(), 0);

        let runs = [running("203.0.113.7:80", 2, &[web])];
        drains.count(&runs, start);
        assert_eq!(drains.take_ended(start), [web].into());
        assert_eq!(drains.leave(web, &both, false, start), [Leave::Now, Leave::Later]);
        assert_eq!(drains.take_flows(), []);
        let end = start + PERIOD;
        drains.count(&runs, end);
        assert_eq!(drains.take_ended(end), [web].into());
        assert_eq!(drains.leave(web, &both[1..], false, end), [Leave::Now]);
        let Running { frontend, backend, carrier, .. } = runs[0].0;
        let (backend, carrier) = (Some(backend), Some(carrier));
        let flow = FlowOperation { frontend, backend, carrier };
        assert_eq!(drains.take_flows(), [flow]);
        assert_eq!(drains.len(), 0);
    }

    #[test]
    fn one_that_comes_back_and_leaves_again_has_all_its_time() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        let runs = [running("10.96.0.1:80", 1, &[web])];
        drains.leave(web, &[backend(1)], false, start);
        drains.leave(web, &[], false, start);
        let later = start + PERIOD / 2;
        drains.leave(web, &[backend(1)], false, later);
        drains.count(&runs, start + PERIOD);
        assert_eq!(drains.leave(web, &[backend(1)], false, start + PERIOD), [Leave::Later]);
        drains.count(&runs, later + PERIOD);
        assert_eq!(drains.leave(web, &[backend(1)], false, later + PERIOD), [Leave::Now]);
    }

    #[test]
    fn none_waits_where_somebody_else_has_the_address() {
        let dns = server("10.96.0.10:53/tcp");
        let now = Instant::now();
        let mut drains = of_period(PERIOD);
        assert_eq!(drains.leave(dns, &[backend(1)], false, now), [Leave::Later]);
        drains.count(&[running("10.96.0.10:53", 1, &[dns])], now);
        assert_eq!(drains.leave(dns, &[backend(1), backend(2)], true, now), [Leave::Now; 2]);
        // Those that run are ended, not left to a stranger.
        assert_eq!(drains.take_flows().len(), 1);
        assert_eq!(drains.len(), 0);
    }

    #[test]
    fn datagrams_move_at_once_and_connections_without_a_period_once_they_are_known() {
        let now = Instant::now();
        let mut drains = of_period(PERIOD);
        let dns = server("10.96.0.10:53/udp");
        assert_eq!(drains.leave(dns, &[backend(1)], false, now), [Leave::Now]);
        let mut drains = of_period(Duration::ZERO);
        let web = server("10.96.0.1:80/tcp");
        assert_eq!(drains.leave(web, &[backend(1)], false, now), [Leave::Later]);
        assert!(drains.counts().take_due(now));
        drains.count(&[], now);
        assert_eq!(drains.leave(web, &[backend(1)], false, now), [Leave::Now]);
    }

    #[test]
    fn a_mass_of_endpoints_for_datagrams_goes_little_by_little() {
        let mut now = Instant::now();
        let mut drains = of_period(PERIOD);
        let dns = |port| VirtualAddress { port, ..server("10.96.0.10:53/udp") };
        let mut waiting: Vec<_> = (0..1_000).collect();
        let mut turns = Vec::new();
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|port| {
                drains.leave(dns(*port), &[backend(1)], false, now) == [Leave::Later]
            });
            assert_eq!(drains.len(), waiting.len());
            turns.push(before - waiting.len());
            now += Duration::from_secs(1);
        }
        assert_eq!(turns, [500, 100, 100, 100, 100, 100]);
    }

    #[test]
    fn connections_are_counted_ever_more_rarely() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        drains.leave(web, &[backend(1)], false, start);
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
    fn a_count_that_takes_long_is_followed_by_a_long_rest() {
        let mut counts = Counts::default();
        let start = Instant::now();
        counts.hasten(start);
        assert!(counts.take_due(start + FIRST_WAIT));
        let end = start + FIRST_WAIT + Duration::from_secs(5);
        counts.done(end);
        assert_eq!(counts.due(), Some(end + Duration::from_secs(45)));
    }
}
