//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::comparison::{Met, Pair, contradiction, has_met_all};
use crate::lab::{Host, Namespace, PATIENCE, SHORT_PATIENCE, ask_from_port};

/// How many clients of a host lookup at the same time.
const CROWD: usize = 8;
/// The same for clients that expect no answer. Even waiting threads cost time.
const WAITING_CROWD: usize = 64;

/// In what company clients lookup.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
    /// Some at a time, each of them patiently.
    InTurn,
    /// One at a time, until each server has answered.
    Alone,
    /// Many at the same time, each for a short while.
    ForAWhile,
}

/// The clients of all hosts.
pub(crate) struct Clients {
    hosts: Vec<(Host, Arc<Namespace>)>,
}

impl Clients {
    /// Clients on these hosts.
    pub(crate) fn new(hosts: impl IntoIterator<Item = (Host, Arc<Namespace>)>) -> Self {
        Self { hosts: hosts.into_iter().collect() }
    }

    /// Makes every pair meet: those of whom one is told something in turn. Who is told nothing has
    /// to wait until it is certain: many of them do at once.
    pub(crate) fn meet<'a>(&self, pairs: &'a [Pair]) -> Vec<(&'a Pair, Met)> {
        let (told, untold): (Vec<&Pair>, Vec<&Pair>) =
            pairs.iter().partition(|pair| pair.is_told());
        let mut met = self.lookup(&told, Manner::InTurn);
        met.extend(self.lookup(&untold, Manner::ForAWhile));
        told.into_iter().chain(untold).zip(met).collect()
    }

    /// Makes every pair meet. Returns what each met with, in their order.
    pub(crate) fn lookup(&self, pairs: &[&Pair], manner: Manner) -> Vec<Met> {
        let mut met = vec![Met::new(); pairs.len()];
        let mut take = |outcomes: Vec<(usize, Met)>| {
            for (index, outcome) in outcomes {
                met[index] = outcome;
            }
        };
        if manner == Manner::Alone {
            self.hosts.iter().for_each(|host| take(probe_from(host, pairs, manner)));
        } else {
            thread::scope(|scope| {
                let start = |host| scope.spawn(move || probe_from(host, pairs, manner));
                let threads: Vec<_> = self.hosts.iter().map(start).collect();
                threads.into_iter().for_each(|it| take(it.join().expect("no thread panics")));
            });
        }
        met
    }
}

/// Probes the addresses of one host's pairs.
fn probe_from(
    (host, namespace): &(Host, Arc<Namespace>),
    pairs: &[&Pair],
    manner: Manner,
) -> Vec<(usize, Met)> {
    let own: Vec<_> = pairs.iter().enumerate().filter(|(_, pair)| pair.from == *host).collect();
    let crowd = match manner {
        Manner::InTurn => CROWD,
        Manner::Alone => 1,
        Manner::ForAWhile => WAITING_CROWD.min(own.len()),
    };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        while let Some((index, pair)) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push((*index, meet(pair, manner, namespace)));
        }
        outcomes
    };
    // Threads are in the namespace of the thread that starts them.
    namespace.inside(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..crowd).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|it| it.join().expect("no thread panics")).collect()
        })
    })
}

/// Sends requests until all expected servers have answered, something else happens, or time is up.
fn meet(pair: &Pair, manner: Manner, namespace: &Namespace) -> Met {
    let patience = match manner {
        Manner::ForAWhile => SHORT_PATIENCE,
        Manner::InTurn | Manner::Alone => PATIENCE,
    };
    let least = if pair.explained.affinity_seconds.is_some() { 2 } else { 1 };
    let most = (2 * pair.explained.backends.len()).max(1);
    let mut met = Met::new();
    loop {
        met.push(ask_from_port(namespace.client_port(), pair.to(), patience));
        let done = has_met_all(pair, &met) && met.len() >= least;
        if done || met.len() >= most || contradiction(pair, &met).is_some() {
            return met;
        }
    }
}
