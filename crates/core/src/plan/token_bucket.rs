//! The rate limit of real-server removals.
//!
//! The kernel keeps each removed real server for three minutes, and searches all of them for each
//! addition (`ip_vs_trash_get_dest` in `net/netfilter/ipvs/ip_vs_ctl.c`): after 100,000 removals at
//! once, an addition takes milliseconds. So a mass removal is spread over time. Until its removal,
//! a real server stays with weight 0.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::model::VirtualAddress;

/// The burst of removals.
const AT_ONCE: i64 = 500;
/// Removals per second after the burst: more than endpoints change in a busy cluster.
const PER_SECOND: i64 = 100;
/// The longest time for a backlog, in seconds.
const LONGEST: i64 = 1_800;
/// The refill interval.
const PERIOD: Duration = Duration::from_secs(1);

/// The token bucket, with the virtual servers that wait for tokens.
#[derive(Debug)]
pub(super) struct TokenBucket {
    /// Below zero after a virtual server with many real servers.
    left: i64,
    since: Option<Instant>,
    waiting: BTreeSet<VirtualAddress>,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self { left: AT_ONCE, since: None, waiting: BTreeSet::new() }
    }
}

impl TokenBucket {
    /// Returns whether `count` real servers of a virtual server may be removed now. If not, the
    /// virtual server waits.
    pub(super) fn take(&mut self, server: VirtualAddress, count: usize, now: Instant) -> bool {
        self.refill(now);
        let may = self.left > 0;
        if may {
            self.left -= i64::try_from(count).unwrap_or(i64::MAX / 2);
        } else {
            self.waiting.insert(server);
        }
        may
    }

    /// Returns the waiting virtual servers that may proceed.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<VirtualAddress> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.refill(now);
        (0..self.left).map_while(|_| self.waiting.pop_first()).collect()
    }

    /// Returns when the next waiting virtual server may proceed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.since.filter(|_| !self.waiting.is_empty()).map(|since| since + PERIOD)
    }

    fn refill(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let periods = now.saturating_duration_since(since).as_secs() / PERIOD.as_secs();
        if periods > 0 {
            let backlog = i64::try_from(self.waiting.len()).unwrap_or(i64::MAX);
            let more = PER_SECOND.max(backlog / LONGEST);
            let periods = i64::try_from(periods).unwrap_or(i64::MAX);
            self.left = self.left.saturating_add(more.saturating_mul(periods)).min(AT_ONCE);
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(index: u16) -> VirtualAddress {
        VirtualAddress {
            ip: [10, 96, 0, 1].into(),
            port: index,
            protocol: crate::model::Protocol::Tcp,
        }
    }

    #[test]
    fn many_removals_are_spread_and_all_happen() {
        let mut token_bucket = TokenBucket::default();
        let mut now = Instant::now();
        let refused: Vec<_> =
            (0..2_000).map(server).filter(|server| !token_bucket.take(*server, 1, now)).collect();
        assert_eq!(refused.len(), 1_500);
        let mut removed = Vec::new();
        while let Some(due) = token_bucket.next_due() {
            assert_eq!(due, now + PERIOD);
            now = due;
            let turn = token_bucket.take_due(now);
            assert_eq!(turn.len(), 100);
            removed.extend(turn.into_iter().filter(|server| token_bucket.take(*server, 1, now)));
        }
        assert_eq!(removed, refused);
    }

    #[test]
    fn a_large_removal_goes_at_once_and_is_paid_back() {
        let mut token_bucket = TokenBucket::default();
        let start = Instant::now();
        assert!(token_bucket.take(server(1), 1_000, start));
        assert!(!token_bucket.take(server(2), 1, start));
        assert_eq!(token_bucket.take_due(start + PERIOD * 5), []);
        assert_eq!(token_bucket.take_due(start + PERIOD * 6), [server(2)]);
    }
}
