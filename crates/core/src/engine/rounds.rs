//! The audit of virtual servers in small parts: IPVS does not report changes by other programs.

use std::time::{Duration, Instant};

use super::{Engine, Work};
use crate::model::VirtualAddress;
use crate::plan::ObjectKey;

/// The duration of a round, if reads are cheap enough.
pub(super) const ROUND: Duration = Duration::from_secs(30);
/// The largest number of virtual servers per read: it takes milliseconds, so that no change waits
/// longer.
const LARGEST_PART: usize = 128;
/// Reads take at most one part in this many of a processor's time.
const SHARE: u32 = 100;

/// The schedule of audits of virtual servers.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// When the next part is due; `None` without audits.
    due: Option<Instant>,
    /// The rest of the round in reverse order.
    left: Vec<VirtualAddress>,
    part: usize,
    pace: Duration,
    /// Whether the current work is a part.
    pub(super) is_part: bool,
    /// The processor time at the begin of a part, until all work that follows from it is done.
    pub(super) began: Option<Duration>,
}

impl Rounds {
    /// Starts a round after a full read of `count` virtual servers. There are no rounds if full
    /// reads are as frequent, or if audits are off.
    pub(super) fn begin(&mut self, audit_period: Option<Duration>, count: usize, now: Instant) {
        let paced = Self { pace: ROUND / parts(count), ..Self::default() };
        let due = audit_period.filter(|period| *period > ROUND).map(|_| now + paced.pace);
        *self = Self { due, ..paced };
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Postpones the next part, because the kernel cannot be read.
    fn put_off(&mut self, until: Instant) {
        self.due = self.due.map(|due| due.max(until));
    }

    /// Returns the next part if it is due. A new round takes all virtual servers from `all`.
    fn take(
        &mut self,
        all: impl FnOnce() -> Vec<VirtualAddress>,
        now: Instant,
    ) -> Option<Vec<VirtualAddress>> {
        self.due.filter(|due| *due <= now)?;
        if self.left.is_empty() {
            self.left = all();
            // A fixed order gives each virtual server the same interval.
            self.left.sort_unstable_by(|one, other| other.cmp(one));
            let parts = parts(self.left.len());
            self.pace = ROUND / parts;
            self.part = self.left.len().div_ceil(parts as usize);
        }
        let rest = self.left.len().saturating_sub(self.part);
        Some(self.left.split_off(rest))
    }

    /// Records that a part was read, and the processor time this took.
    pub(super) fn done(&mut self, took: Duration, now: Instant) {
        let free = now + took.saturating_mul(SHARE);
        self.due = self.due.map(|due| (due + self.pace).max(free));
    }
}

fn parts(count: usize) -> u32 {
    u32::try_from(count.div_ceil(LARGEST_PART)).unwrap_or(u32::MAX).max(1)
}

impl Engine {
    /// Returns whether the current read of virtual servers is part of an audit, and not a retry.
    #[must_use]
    pub fn is_auditing(&self) -> bool {
        self.rounds.is_part
    }

    pub(super) fn poll_part(&mut self, now: Instant) -> Option<Work> {
        let Self { rounds, resync, reconciler, retries, .. } = self;
        if rounds.began.is_some() {
            return None;
        }
        if let Some(until) = resync.held_up() {
            rounds.put_off(until);
        }
        let mut part = rounds.take(|| reconciler.actual_pools().copied().collect(), now)?;
        // A virtual server that was removed meanwhile may belong to another program now. A failed
        // one is read on its own.
        part.retain(|address| {
            reconciler.is_actual(address) && !retries.has(&ObjectKey::Pool(*address))
        });
        if part.is_empty() {
            rounds.done(Duration::ZERO, now);
            return None;
        }
        rounds.is_part = true;
        Some(Work::ObservePools(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(300));

    fn servers(count: u16) -> Vec<VirtualAddress> {
        let address = |port| VirtualAddress {
            ip: [10, 96, 0, 1].into(),
            port,
            protocol: crate::model::Protocol::Tcp,
        };
        (1..=count).map(address).collect()
    }

    /// Simulates reads for `seconds`, each virtual server for `each` of a processor's time. Returns
    /// the start of each part and its size.
    fn read_for(seconds: u64, count: u16, each: Duration) -> Vec<(Duration, usize)> {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        rounds.begin(LONG, usize::from(count), start);
        let (mut now, mut parts) = (start, Vec::new());
        while let Some(due) = rounds.due().filter(|due| *due < start + Duration::from_secs(seconds))
        {
            now = now.max(due);
            if let Some(part) = rounds.take(|| servers(count), now) {
                parts.push((now - start, part.len()));
                let took = each * u32::try_from(part.len()).unwrap_or(u32::MAX);
                now += took;
                rounds.done(took, now);
            }
        }
        parts
    }

    #[test]
    fn a_round_takes_thirty_seconds_and_is_spread_over_them() {
        let few = read_for(95, 5, Duration::from_micros(60));
        let seconds = |parts: &[(Duration, usize)]| -> Vec<_> {
            parts.iter().map(|(at, read)| (at.as_secs(), *read)).collect()
        };
        assert_eq!(seconds(&few), [(30, 5), (60, 5), (90, 5)]);
        // 4,000 virtual servers of 10 real servers.
        let mut many = read_for(31, 4000, Duration::from_micros(60));
        many.retain(|(at, _)| *at <= ROUND);
        assert_eq!(many.iter().map(|(_, read)| read).sum::<usize>(), 4000);
        assert!(many.iter().all(|(_, read)| *read <= LARGEST_PART));
        assert_eq!(many.len(), 4000_usize.div_ceil(LARGEST_PART));
    }

    #[test]
    fn an_audit_that_costs_more_than_a_hundredth_takes_longer() {
        // 10,000 virtual servers of 10 real servers take 0.7 seconds.
        let each = Duration::from_micros(70);
        let parts = read_for(90, 10_000, each);
        let read: usize = parts.iter().map(|(_, read)| read).sum();
        assert!((10_000..13_500).contains(&read), "{read}");
        // The distance between parts is a hundred times the duration of a part.
        for pair in parts.windows(2) {
            if let [(at, read), (next, _)] = pair {
                let took = each * u32::try_from(*read).unwrap_or(u32::MAX);
                assert!(*next >= *at + took * SHARE, "{at:?} {next:?}");
            }
        }
    }

    #[test]
    fn audits_are_paced_only_between_long_resyncs() {
        let now = Instant::now();
        for (period, due) in [(None, None), (Some(ROUND), None), (LONG, Some(now + ROUND))] {
            let mut rounds = Rounds::default();
            rounds.begin(period, 1, now);
            assert_eq!(rounds.due(), due, "{period:?}");
        }
    }
}
