//! Weights that differ from the desired ones for a time: those of new real servers grow.
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

/// The present weights of pools with slow start.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// With the time of the next step.
    by_server: BTreeMap<VirtualAddress, (Growths, Option<Instant>)>,
    due: BTreeSet<(Instant, VirtualAddress)>,
}

impl Weights {
    /// Returns the desired pool with its present weights, if they differ from the desired ones.
    ///
    /// A growth does not begin again for an endpoint that returns within the time of a slow start,
    /// or that the agent finds in the kernel after a restart with a part of its weight. Endpoints of
    /// a pool without serving real servers do not grow: there is none to compare them with.
    pub(super) fn adjust(
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
        let none = Backends::default();
        let held: FxHashMap<_, _> = actual
            .map_or(&none, |actual| &actual.backends)
            .iter()
            .map(|backend| (backend.socket(), backend.weight))
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
            let is_tenth = part < whole && part % (whole / STEPS).max(1) == 0;
            let tenths = part / (whole / STEPS).max(1);
            is_tenth.then(|| now.checked_sub(time * tenths.saturating_sub(1) / (STEPS - 1)))?
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

    #[test]
    fn the_first_real_servers_of_a_pool_do_not_grow() {
        let (mut weights, mut actual, start) = (Weights::default(), None, Instant::now());
        let two = pool(&[(1, 10), (2, 10)]);
        assert_eq!(step(&mut weights, &two, &mut actual, start), [10, 10]);
        step(&mut weights, &pool(&[]), &mut actual, start);
        assert_eq!(step(&mut weights, &pool(&[(3, 10)]), &mut actual, start), [10]);
    }
}
