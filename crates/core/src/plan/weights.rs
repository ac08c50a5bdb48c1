//! Weights that differ from the desired ones for a time: those of new real servers grow, and those of
//! ejected ones are 0.
//!
//! A new real server of a pool with slow start begins with a tenth of its weight. The weights of such
//! a pool are multiples of ten, so every tenth is a whole number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::model::{Backend, Backends, Pool, Shared, VirtualAddress};

/// The steps of a growth. The first begins at once, and the last ends it.
const STEPS: u32 = 10;

/// A real server that grows, or that has gone and may return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Growth {
    /// `None` if it had its whole weight when it went.
    since: Option<Instant>,
    gone: Option<Instant>,
}

type Growths = BTreeMap<SocketAddr, Growth>;

/// The present weights of pools with slow start or ejected real servers.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// With the time of the next step.
    by_server: BTreeMap<VirtualAddress, (Growths, Option<Instant>)>,
    due: BTreeSet<(Instant, VirtualAddress)>,
    /// No entry is empty.
    ejected: BTreeMap<VirtualAddress, BTreeMap<SocketAddr, Ejected>>,
}

/// An ejected real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ejected {
    /// The desired weight.
    weight: u32,
    /// The next adjustment gives it its weight again.
    ends: bool,
}

impl Weights {
    /// Gives a real server weight 0 as long as its desired weight stays.
    pub(super) fn eject(&mut self, server: VirtualAddress, backend: &Backend) {
        self.ejected
            .entry(server)
            .or_default()
            .insert(backend.socket(), Ejected { weight: backend.weight, ends: false });
    }

    /// Gives a real server its desired weight again.
    pub(super) fn restore(&mut self, server: &VirtualAddress, backend: &SocketAddr) {
        let ejected = self.ejected.get_mut(server).and_then(|all| all.get_mut(backend));
        if let Some(ejected) = ejected {
            ejected.ends = true;
        }
    }

    /// Returns every ejected real server with its virtual server.
    pub(super) fn ejected(&self) -> impl Iterator<Item = (&VirtualAddress, &SocketAddr)> {
        let all = self.ejected.iter().flat_map(|(server, ejected)| {
            ejected.iter().map(move |(backend, ejected)| (server, backend, ejected))
        });
        all.filter(|(.., ejected)| !ejected.ends).map(|(server, backend, _)| (server, backend))
    }

    pub(super) fn is_ejected(&self, server: &VirtualAddress, backend: &SocketAddr) -> bool {
        self.ejected.get(server).and_then(|all| all.get(backend)).is_some_and(|it| !it.ends)
    }

    /// Returns the desired pool with its present weights, if they differ from the desired ones.
    pub(super) fn adjust(
        &mut self,
        desired: Option<&Shared<Pool>>,
        actual: Option<&Pool>,
        now: Instant,
    ) -> Option<Shared<Pool>> {
        let grown = self.grow(desired, actual, now);
        if self.ejected.is_empty() {
            return grown;
        }
        match (desired, actual) {
            (Some(desired), _) => return self.without_ejected(desired, grown),
            (None, Some(actual)) => drop(self.ejected.remove(&actual.server.address)),
            (None, None) => {}
        }
        grown
    }

    /// Sets the weights of ejected real servers to 0. Forgets those that are no longer desired, that
    /// have another weight now, and those without which less than half of the pool would serve.
    fn without_ejected(
        &mut self,
        desired: &Shared<Pool>,
        grown: Option<Shared<Pool>>,
    ) -> Option<Shared<Pool>> {
        let address = desired.server.address;
        let Some(ejected) = self.ejected.get_mut(&address) else { return grown };
        let serving = desired.backends.iter().filter(|backend| !backend.is_draining());
        let serving: FxHashMap<_, _> = serving.map(|it| (it.socket(), it.weight)).collect();
        let may_eject = desired.eject_after().is_some();
        ejected.retain(|socket, Ejected { weight, ends }| {
            may_eject && !*ends && serving.get(socket) == Some(weight)
        });
        while ejected.len() > serving.len() / 2 {
            ejected.pop_last();
        }
        if ejected.is_empty() {
            self.ejected.remove(&address);
            return grown;
        }
        let pool = grown.as_ref().unwrap_or(desired);
        let present = |backend: &Backend| match ejected.contains_key(&backend.socket()) {
            true => backend.drained(),
            false => *backend,
        };
        let backends = pool.backends.iter().map(present).collect();
        Some(Pool { backends, ..Pool::clone(pool) }.into())
    }

    /// Returns the desired pool with the weights of its growing real servers, if there are any.
    ///
    /// A growth does not begin again for an endpoint that returns within the time of a slow start,
    /// or that the agent finds in the kernel after a restart with a part of its weight. Endpoints of
    /// a pool without serving real servers do not grow: there is none to compare them with.
    fn grow(
        &mut self,
        desired: Option<&Shared<Pool>>,
        actual: Option<&Pool>,
        now: Instant,
    ) -> Option<Shared<Pool>> {
        let address = desired.map(|it| &it.server).or(actual.map(|it| &it.server))?.address;
        let (known, due) = self.by_server.remove(&address).unwrap_or_default();
        if let Some(due) = due {
            self.due.remove(&(due, address));
        }
        let desired = desired?;
        let time = desired.control.as_ref().map_or(Duration::ZERO, |control| control.slow_start);
        if time.is_zero() {
            return None;
        }
        let ejected = self.ejected.get(&address);
        let is_ejected = |socket: &_| ejected.is_some_and(|ejected| ejected.contains_key(socket));
        let none = Backends::default();
        let held: FxHashMap<_, _> = actual
            .map_or(&none, |actual| &actual.backends)
            .iter()
            .map(|backend| (backend.socket(), backend.weight))
            // An ejected real server does not grow when it returns.
            .map(|(socket, weight)| (socket, if is_ejected(&socket) { u32::MAX } else { weight }))
            .collect();
        let mut growths = gone(&known, &held, desired, time, now);
        let is_served = held.values().any(|weight| *weight > 0);
        for backend in desired.backends.iter().filter(|backend| !backend.is_draining()) {
            let socket = backend.socket();
            let weight = held.get(&socket).copied();
            let growth = match known.get(&socket) {
                Some(Growth { gone: Some(gone), .. }) if *gone + time <= now => None,
                known => known.copied(),
            };
            let since = match growth {
                Some(growth) => growth.since,
                None => begun(weight, backend.weight, is_served, time, now),
            };
            growths.remove(&socket);
            if let Some(since) = since.filter(|since| tenths(*since, time, now) < STEPS) {
                growths.insert(socket, Growth { since: Some(since), gone: None });
            }
        }
        let grows = |backend: &Backend| growths.get(&backend.socket())?.since;
        let present = |backend: &Backend| match grows(backend) {
            Some(since) if !backend.is_draining() => {
                let weight = backend.weight / STEPS * tenths(since, time, now);
                Backend { weight: weight.max(1), ..*backend }
            }
            _ => *backend,
        };
        let differs = desired.backends.iter().any(|backend| present(backend) != *backend);
        let weighted = differs.then(|| {
            let backends = desired.backends.iter().map(present).collect();
            Pool { backends, ..Pool::clone(desired) }.into()
        });
        if !growths.is_empty() {
            let due = next_step(&growths, time, now);
            self.due.extend(due.map(|due| (due, address)));
            self.by_server.insert(address, (growths, due));
        }
        weighted
    }

    /// Removes and returns the virtual servers whose weights change by now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<VirtualAddress> {
        let mut due = Vec::new();
        while let Some(&(at, address)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, address));
            due.push(address);
        }
        due
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

/// Returns when the next growth steps, or the memory of a departure ends.
fn next_step(growths: &Growths, time: Duration, now: Instant) -> Option<Instant> {
    let next = growths.values().filter_map(|growth| match growth {
        Growth { gone: Some(gone), .. } => Some(*gone + time),
        Growth { since: Some(since), .. } => {
            Some(*since + time * tenths(*since, time, now) / (STEPS - 1))
        }
        Growth { .. } => None,
    });
    next.min()
}

/// Returns the real servers that are no longer desired and may return.
fn gone(
    known: &Growths,
    held: &FxHashMap<SocketAddr, u32>,
    desired: &Pool,
    time: Duration,
    now: Instant,
) -> Growths {
    let serving: BTreeSet<_> =
        desired.backends.iter().filter(|it| !it.is_draining()).map(Backend::socket).collect();
    let whole = held.iter().filter(|(socket, weight)| {
        **weight > 0 && !serving.contains(socket) && !known.contains_key(socket)
    });
    let whole = whole.map(|(socket, _)| (*socket, Growth { since: None, gone: Some(now) }));
    let left = known.iter().filter(|(socket, _)| !serving.contains(socket));
    let left = left
        .map(|(socket, growth)| (*socket, Growth { gone: growth.gone.or(Some(now)), ..*growth }));
    let recent = |(_, growth): &(_, Growth)| growth.gone.is_some_and(|gone| gone + time > now);
    whole.chain(left).filter(recent).collect()
}

/// Returns when the growth of a real server began that is not known to grow.
fn begun(
    held: Option<u32>,
    whole: u32,
    is_served: bool,
    time: Duration,
    now: Instant,
) -> Option<Instant> {
    match held {
        // A part that this program has set before a restart.
        Some(part) if part > 0 => {
            let tenth = (whole / STEPS).max(1);
            let passed = (part / tenth).saturating_sub(1);
            let is_part = part < whole && part % tenth == 0;
            is_part.then(|| now.checked_sub(time * passed / (STEPS - 1)))?
        }
        _ => is_served.then_some(now),
    }
}

/// Returns the present tenths of the weight, at most [`STEPS`].
fn tenths(since: Instant, time: Duration, now: Instant) -> u32 {
    let elapsed = now.saturating_duration_since(since).as_nanos();
    let steps = elapsed * u128::from(STEPS - 1) / time.as_nanos().max(1);
    1 + u32::try_from(steps).unwrap_or(STEPS).min(STEPS - 1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{PoolControl, Scheduler, VirtualServer};

    const TIME: Duration = Duration::from_secs(90);
    const SECOND: Duration = Duration::from_secs(1);

    /// Returns a pool with slow start; each real server has an octet and a weight.
    fn pool(backends: &[(u8, u32)]) -> Shared<Pool> {
        let address = "10.96.0.10:80".parse().expect("address");
        let backend = |(last, weight): &(u8, u32)| Backend {
            address: [10, 244, 1, *last].into(),
            port: 80,
            weight: *weight,
            local: false,
        };
        let control = PoolControl { slow_start: TIME, ..PoolControl::default() };
        Pool {
            server: VirtualServer::new(address, Scheduler::Wlc),
            backends: backends.iter().map(backend).collect(),
            control: Some(control.into()),
        }
        .into()
    }

    fn weights(pool: &Pool) -> Vec<u32> {
        pool.backends.iter().map(|backend| backend.weight).collect()
    }

    /// Adjusts the weights as if the kernel had the result of the last adjustment.
    fn step(
        weights: &mut Weights,
        desired: &Shared<Pool>,
        actual: &mut Option<Shared<Pool>>,
        now: Instant,
    ) -> Vec<u32> {
        let adjusted = weights.adjust(Some(desired), actual.as_deref(), now);
        *actual = Some(adjusted.unwrap_or_else(|| Shared::clone(desired)));
        self::weights(actual.as_ref().expect("a pool"))
    }

    #[test]
    fn a_new_real_server_grows_beside_others() {
        let (mut weights, mut actual, start) = (Weights::default(), None, Instant::now());
        assert_eq!(step(&mut weights, &pool(&[(1, 10)]), &mut actual, start), [10]);
        let two = pool(&[(1, 10), (2, 40)]);
        assert_eq!(step(&mut weights, &two, &mut actual, start), [10, 4]);
        for (seconds, expected) in [(9, 4), (10, 8), (45, 20), (89, 36), (90, 40)] {
            let now = start + SECOND * seconds;
            weights.take_due(now);
            assert_eq!(step(&mut weights, &two, &mut actual, now), [10, expected], "{seconds}");
            let due = weights.next_due().map(|due| due - now);
            assert_eq!(due, (seconds < 90).then(|| SECOND * (10 - seconds % 10)));
        }
        assert!(weights.by_server.is_empty(), "nothing is left of a complete growth");
    }

    #[test]
    fn a_growth_goes_on_after_a_flap_and_after_a_restart() {
        let (mut weights, mut actual, start) = (Weights::default(), None, Instant::now());
        let (one, two) = (pool(&[(1, 10)]), pool(&[(1, 10), (2, 10)]));
        step(&mut weights, &one, &mut actual, start);
        step(&mut weights, &two, &mut actual, start);
        step(&mut weights, &one, &mut actual, start + SECOND * 20);
        let now = start + SECOND * 30;
        assert_eq!(step(&mut weights, &two, &mut actual, now), [10, 4]);
        // Another agent continues with what it finds in the kernel.
        let mut restarted = Weights::default();
        assert_eq!(step(&mut restarted, &two, &mut actual, now), [10, 4]);
        assert_eq!(step(&mut restarted, &two, &mut actual, now + SECOND * 60), [10, 10]);
        // A whole real server that returns has its whole weight, until its memory ends.
        step(&mut restarted, &one, &mut actual, now + SECOND * 70);
        assert_eq!(step(&mut restarted, &two, &mut actual, now + SECOND * 80), [10, 10]);
        step(&mut restarted, &one, &mut actual, now + SECOND * 100);
        assert_eq!(restarted.next_due(), Some(now + SECOND * 190), "the end of its memory");
        assert_eq!(restarted.take_due(now + SECOND * 200).len(), 1);
        step(&mut restarted, &one, &mut actual, now + SECOND * 200);
        assert!(restarted.by_server.is_empty());
        assert_eq!(step(&mut restarted, &two, &mut actual, now + SECOND * 200), [10, 1]);
    }

    /// Returns the pool with ejection, without slow start.
    fn ejecting(backends: &[(u8, u32)]) -> Shared<Pool> {
        let control = PoolControl { eject: SECOND, ..PoolControl::default() };
        Pool { control: Some(control.into()), ..Pool::clone(&pool(backends)) }.into()
    }

    fn eject(weights: &mut Weights, desired: &Pool, last: u8) {
        let backend =
            desired.backends.iter().find(|it| it.address == IpAddr::from([10, 244, 1, last]));
        weights.eject(desired.server.address, backend.expect("a backend"));
    }

    #[test]
    fn an_ejected_real_server_has_no_weight_until_the_api_changes_it() {
        let three = ejecting(&[(1, 10), (2, 20), (3, 30)]);
        let table = [
            ("the same endpoints", three.clone(), vec![10, 0, 30]),
            ("one more", ejecting(&[(1, 10), (2, 20), (3, 30), (4, 1)]), vec![10, 0, 30, 1]),
            ("another weight", ejecting(&[(1, 10), (2, 21), (3, 30)]), vec![10, 21, 30]),
            ("weight 0", ejecting(&[(1, 10), (2, 0), (3, 30)]), vec![10, 0, 30]),
            ("gone", ejecting(&[(1, 10), (3, 30)]), vec![10, 30]),
            ("the last", ejecting(&[(2, 20)]), vec![20]),
            ("the last besides a draining one", ejecting(&[(1, 0), (2, 20)]), vec![0, 20]),
            ("no ejection", pool(&[(1, 10), (2, 20), (3, 30)]), vec![10, 20, 30]),
        ];
        for (change, desired, expected) in table {
            let (mut weights, now) = (Weights::default(), Instant::now());
            let mut actual = Some(three.clone());
            eject(&mut weights, &three, 2);
            assert_eq!(step(&mut weights, &three, &mut actual, now), [10, 0, 30]);
            assert_eq!(step(&mut weights, &desired, &mut actual, now), expected, "{change}");
            // What was forgotten does not come back.
            let is_forgotten = weights.ejected().count() == 0;
            let then = if is_forgotten { [10, 20, 30] } else { [10, 0, 30] };
            assert_eq!(step(&mut weights, &three, &mut actual, now), then, "after {change}");
        }
    }

    #[test]
    fn at_most_half_of_a_pool_is_ejected_also_when_it_shrinks() {
        let (mut weights, mut actual, now) = (Weights::default(), None, Instant::now());
        let four = ejecting(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        eject(&mut weights, &four, 1);
        eject(&mut weights, &four, 2);
        assert_eq!(step(&mut weights, &four, &mut actual, now), [0, 0, 1, 1]);
        let three = ejecting(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(step(&mut weights, &three, &mut actual, now), [0, 1, 1]);
        assert_eq!(step(&mut weights, &ejecting(&[]), &mut actual, now), []);
        assert!(weights.ejected.is_empty());
    }

    #[test]
    fn a_real_server_does_not_grow_again_after_an_ejection() {
        let both = Pool::clone(&pool(&[(1, 10), (2, 10)]));
        let control = PoolControl { eject: SECOND, slow_start: TIME, ..PoolControl::default() };
        let both: Shared<Pool> = Pool { control: Some(control.into()), ..both }.into();
        let (mut weights, mut actual, now) = (Weights::default(), None, Instant::now());
        assert_eq!(step(&mut weights, &both, &mut actual, now), [10, 10]);
        eject(&mut weights, &both, 2);
        assert_eq!(step(&mut weights, &both, &mut actual, now), [10, 0]);
        assert_eq!(step(&mut weights, &both, &mut actual, now + SECOND), [10, 0]);
        assert_eq!(weights.next_due(), None);
        weights.restore(&both.server.address, &"10.244.1.2:80".parse().expect("address"));
        assert_eq!(step(&mut weights, &both, &mut actual, now + SECOND), [10, 10]);
    }

    #[test]
    fn the_first_real_servers_of_a_pool_do_not_grow() {
        let (mut weights, mut actual, start) = (Weights::default(), None, Instant::now());
        let two = pool(&[(1, 10), (2, 10)]);
        assert_eq!(step(&mut weights, &two, &mut actual, start), [10, 10]);
        step(&mut weights, &pool(&[]), &mut actual, start);
        assert_eq!(step(&mut weights, &pool(&[(3, 10)]), &mut actual, start), [10]);
    }
}
