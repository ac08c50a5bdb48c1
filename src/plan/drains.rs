//! Real servers that are no longer wanted and still have connections.
//!
//! They stay in the kernel with weight 0: no new connection goes to them, established ones go on
//! until they end or a deadline passes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use crate::model::{Backend, Protocol, Shared, VirtualAddress};

/// Wait before connections are counted for the first time; doubles with each further time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two counts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Address and port of a real server.
type Socket = (IpAddr, u16);

/// How many connections each real server of a virtual server has, in every state.
pub type Connections = Vec<(Socket, u64)>;

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
    /// Whether its connections have ended.
    idle: bool,
}

/// The leaving real servers of one virtual server.
#[derive(Debug)]
struct Drain {
    leaving: BTreeMap<Socket, Leaving>,
    wait: Duration,
    count_at: Instant,
    /// Its place in [`Drains::due`].
    indexed: Instant,
}

/// The leaving real servers of all virtual servers.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// How long connections may go on.
    period: Duration,
    by_server: BTreeMap<VirtualAddress, Drain>,
    /// When each is to be looked at again, so that nothing ever walks them all.
    due: BTreeSet<(Instant, VirtualAddress)>,
    /// Those with real servers that are to go now.
    ended: BTreeSet<VirtualAddress>,
    /// Leaving real servers of all.
    count: usize,
    allowance: Allowance,
}

impl Drain {
    /// When connections are to be counted, or the next deadline passes.
    fn due(&self, now: Instant) -> Instant {
        let deadlines = self.leaving.values().map(|leaving| leaving.until);
        deadlines.filter(|until| *until > now).fold(self.count_at, Instant::min)
    }
}

impl Drains {
    /// Those to come may take that long.
    pub(super) fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Takes in which real servers of a virtual server are held and not wanted. Says of each how
    /// it goes.
    pub(super) fn leave(
        &mut self,
        server: VirtualAddress,
        backends: &[Backend],
        now: Instant,
    ) -> Vec<Leave> {
        let former = self.remove(&server);
        // A datagram that finds no server goes to another one: nothing is gained by waiting.
        if server.protocol == Protocol::Udp || self.period.is_zero() || backends.is_empty() {
            return vec![Leave::Now; backends.len()];
        }
        let (wait, count_at, mut former) = match former {
            Some(Drain { leaving, wait, count_at, .. }) => (wait, count_at, leaving),
            None => (FIRST_WAIT, now + FIRST_WAIT, BTreeMap::new()),
        };
        let mut drain = Drain { leaving: BTreeMap::new(), wait, count_at, indexed: count_at };
        let mut begins = false;
        let mut decide = |backend: &Backend| {
            let socket = (backend.address, backend.port);
            let leaving = former.remove(&socket).unwrap_or_else(|| {
                begins = true;
                let backend = backend.drained();
                Leaving { backend, until: now + self.period, idle: false }
            });
            let ends = leaving.idle || leaving.until <= now;
            if ends && self.allowance.take(server, 1, now) {
                return Leave::Now;
            }
            drain.leaving.insert(socket, leaving);
            Leave::Later
        };
        let leaves = backends.iter().map(&mut decide).collect();
        if begins {
            drain.wait = FIRST_WAIT;
            drain.count_at = drain.count_at.min(now + FIRST_WAIT);
        }
        if !drain.leaving.is_empty() {
            self.count += drain.leaving.len();
            drain.indexed = drain.due(now);
            self.due.insert((drain.indexed, server));
            self.by_server.insert(server, drain);
        }
        leaves
    }

    /// The leaving real servers of a virtual server, sorted.
    pub(super) fn of(&self, server: &VirtualAddress) -> Option<Shared<[Backend]>> {
        let drain = self.by_server.get(server)?;
        Some(drain.leaving.values().map(|leaving| leaving.backend).collect())
    }

    /// Every leaving real server with its virtual server.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.by_server
            .iter()
            .flat_map(|(server, drain)| drain.leaving.values().map(move |it| (server, &it.backend)))
    }

    /// The virtual servers whose connections are to be counted now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<VirtualAddress> {
        let mut counted = Vec::new();
        while let Some((at, server)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            let Some(drain) = self.by_server.get_mut(&server) else { continue };
            if drain.count_at <= now {
                counted.push(server);
                drain.count_at = now + drain.wait;
                drain.wait = (drain.wait * 2).min(LONGEST_WAIT);
            }
            if drain.leaving.values().any(|leaving| leaving.until <= now) {
                self.ended.insert(server);
            }
            drain.indexed = drain.due(now);
            self.due.insert((drain.indexed, server));
        }
        counted
    }

    /// When connections are to be counted, a deadline passes or more may go, next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.allowance.next_due()).min()
    }

    /// Takes in the connections of a virtual server's real servers.
    pub(super) fn count(&mut self, server: &VirtualAddress, connections: &Connections) {
        let Some(drain) = self.by_server.get_mut(server) else { return };
        // One that somebody else removed has no connections either.
        drain.leaving.values_mut().for_each(|leaving| leaving.idle = true);
        for (socket, count) in connections {
            if let Some(leaving) = drain.leaving.get_mut(socket) {
                leaving.idle = *count == 0;
            }
        }
        if drain.leaving.values().any(|leaving| leaving.idle) {
            self.ended.insert(*server);
        }
    }

    /// Whether a virtual server that nobody wants, with so many real servers, goes now. If not, it
    /// is among those that [`Drains::take_ended`] gives another time.
    pub(super) fn ends(&mut self, server: VirtualAddress, count: usize, now: Instant) -> bool {
        self.remove(&server);
        // Datagrams would go on to where they went.
        server.protocol == Protocol::Udp || self.allowance.take(server, count, now)
    }

    /// The virtual servers with real servers that are to go now.
    pub(super) fn take_ended(&mut self, now: Instant) -> BTreeSet<VirtualAddress> {
        let mut ended = mem::take(&mut self.ended);
        ended.extend(self.allowance.take_due(now));
        ended
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
        self.count -= drain.leaving.len();
        self.due.remove(&(drain.indexed, *server));
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

    fn socket(last: u8) -> (IpAddr, u16) {
        (backend(last).address, 80)
    }

    #[test]
    fn one_goes_when_its_connections_have_ended_or_its_time_has_come() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        let both = [backend(1), backend(2)];
        assert_eq!(drains.leave(web, &both, start), [Leave::Later; 2]);
        assert_eq!(drains.of(&web).unwrap().iter().map(|it| it.weight).sum::<u16>(), 0);

        drains.count(&web, &vec![(socket(1), 0), (socket(2), 3)]);
        assert_eq!(drains.take_ended(start), [web].into());
        assert_eq!(drains.leave(web, &both, start), [Leave::Now, Leave::Later]);
        assert_eq!(drains.leave(web, &both[1..], start + PERIOD), [Leave::Now]);
        assert_eq!(drains.next_due(), None);
    }

    #[test]
    fn who_comes_back_and_leaves_again_has_all_its_time() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        drains.leave(web, &[backend(1)], start);
        drains.leave(web, &[], start);
        let later = start + PERIOD / 2;
        drains.leave(web, &[backend(1)], later);
        assert_eq!(drains.leave(web, &[backend(1)], start + PERIOD), [Leave::Later]);
        assert_eq!(drains.leave(web, &[backend(1)], later + PERIOD), [Leave::Now]);
    }

    #[test]
    fn datagrams_are_cut_over_at_once_and_so_is_everything_without_a_period() {
        let now = Instant::now();
        let mut drains = of_period(PERIOD);
        let dns = server("10.96.0.10:53/udp");
        assert_eq!(drains.leave(dns, &[backend(1)], now), [Leave::Now]);
        let mut drains = of_period(Duration::ZERO);
        let web = server("10.96.0.1:80/tcp");
        assert_eq!(drains.leave(web, &[backend(1)], now), [Leave::Now]);
    }

    #[test]
    fn connections_are_counted_ever_more_rarely() {
        let web = server("10.96.0.1:80/tcp");
        let start = Instant::now();
        let mut drains = of_period(PERIOD);
        drains.leave(web, &[backend(1)], start);
        let mut seconds = Vec::new();
        let mut now = start;
        while now < start + PERIOD {
            now = drains.next_due().unwrap();
            if !drains.take_due(now).is_empty() {
                seconds.push((now - start).as_secs());
            }
        }
        assert_eq!(seconds[..7], [1, 2, 4, 8, 16, 32, 62]);
        assert_eq!(now, start + PERIOD);
    }
}
