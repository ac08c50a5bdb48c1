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
/// How many virtual servers are read in the time that the real servers of one take.
const COSTLY: usize = 16;
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

    /// Returns the counters to read if a sample is due, and schedules the next one. Of many virtual
    /// servers, which the kernel lists only as a whole, all are read if many of them ask for ejection.
    /// The real servers of a few are read without looking for new connections first.
    pub(super) fn poll(&mut self, now: Instant, all_servers: usize) -> Option<SampleTargets> {
        if self.pools.is_empty() {
            return None;
        }
        let are_many = self.pools.len() * COSTLY >= all_servers;
        if !are_many {
            self.due[0] = None;
        }
        let [servers, real_servers] = self.due.map(|due| due.is_none_or(|due| due <= now));
        let servers = servers && are_many;
        let real_servers = real_servers && (self.due[1].is_some() || !are_many);
        if !servers && !real_servers {
            return None;
        }
        let mut targets = SampleTargets { servers, real_servers: Vec::new() };
        let mut least = None;
        for (address, pool) in &self.pools {
            let least_often = (!are_many).then_some(PERIOD);
            let Some(interval) = pool.interval(now).or(least_often) else { continue };
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
        let Some((Watched { until, read, records, .. }, after)) = pool else { return Vec::new() };
        let has_new = |it: &RealCounters| {
            records.get(&it.backend).is_some_and(|record| record.last.connections < it.connections)
        };
        if counters.iter().any(has_new) {
            *until = Some(now + ATTENTION);
            self.due[1] = self.due[1].map(|due| due.min(now + WATCHED));
        }
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
mod tests;
