//! How often what is told: what repeats is counted and told together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{About, Notice, Reason};

/// Time between two notices of the same reason about the same object.
pub const QUIET: Duration = Duration::from_secs(300);
/// Notices that may follow one another at once, whatever they are about,
const BURST: u32 = 20;
/// and time that each costs in the long run. A node with a wrong idea of the whole cluster is one
/// of thousands.
const COST: Duration = Duration::from_secs(10);
/// Objects and reasons that are kept in mind.
const MOST_TOPICS: usize = 1000;

/// Decides when a notice may be told.
#[derive(Debug)]
pub(super) struct Limiter {
    quiet: Duration,
    topics: BTreeMap<(About, Reason), Topic>,
    /// Until when what has been told has its cost.
    paid_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Topic {
    told: Option<Instant>,
    held: Option<Held>,
}

/// Waits to be told.
#[derive(Debug)]
struct Held {
    /// The latest.
    notice: Notice,
    /// How many there have been since the last that was told.
    count: u32,
}

impl Limiter {
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, topics: BTreeMap::new(), paid_until: None }
    }

    /// Takes in a notice. Says whether there is room for it.
    pub(super) fn add(&mut self, notice: Notice) -> bool {
        let key = (notice.about.clone(), notice.reason);
        if self.topics.len() >= MOST_TOPICS && !self.topics.contains_key(&key) {
            return false;
        }
        let held = &mut self.topics.entry(key).or_default().held;
        let count = held.as_ref().map_or(0, |held| held.count) + 1;
        *held = Some(Held { notice, count });
        true
    }

    /// A notice that may be told now, and how many it stands for.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Notice, u32)> {
        if self.free_at().is_some_and(|at| at > now) {
            return None;
        }
        let quiet = self.quiet;
        let is_quiet = |topic: &Topic| topic.due(quiet).is_none_or(|at| at <= now);
        self.topics.retain(|_, topic| topic.held.is_some() || !is_quiet(topic));
        let mut topics = self.topics.values_mut();
        let topic = topics.find(|topic| topic.held.is_some() && is_quiet(topic))?;
        let Held { notice, count } = topic.held.take()?;
        topic.told = Some(now);
        self.paid_until = Some(self.paid_until.map_or(now, |until| until.max(now)) + COST);
        Some((notice, count))
    }

    /// When [`Limiter::next`] may have something that it does not have now.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let held = self.topics.values().filter(|topic| topic.held.is_some());
        let first = held.map(|topic| topic.due(self.quiet).unwrap_or(now)).min()?;
        Some(self.free_at().map_or(first, |free| free.max(first)))
    }

    /// From when on a further notice may be told.
    fn free_at(&self) -> Option<Instant> {
        self.paid_until?.checked_sub(COST * (BURST - 1))
    }
}

impl Topic {
    /// From when on it may be told again.
    fn due(&self, quiet: Duration) -> Option<Instant> {
        self.told.map(|told| told + quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceKey;

    fn notice(name: &str, message: &str) -> Notice {
        let about = About::Service(ServiceKey::new("default", name));
        Notice { about, reason: Reason::AddressTaken, message: message.to_owned() }
    }

    #[test]
    fn what_repeats_is_told_once_and_then_with_its_count() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        assert_eq!(limiter.next_due(now), None);
        limiter.add(notice("web", "first"));
        assert_eq!(limiter.next_due(now), Some(now));
        assert_eq!(limiter.next(now), Some((notice("web", "first"), 1)));
        limiter.add(notice("web", "second"));
        limiter.add(notice("web", "third"));
        limiter.add(notice("other", "else"));
        assert_eq!(limiter.next(now), Some((notice("other", "else"), 1)));
        assert_eq!(limiter.next(now), None);
        assert_eq!(limiter.next_due(now), Some(now + QUIET));
        assert_eq!(limiter.next(now + QUIET), Some((notice("web", "third"), 2)));
        assert_eq!(limiter.next(now + 3 * QUIET), None);
        assert!(limiter.topics.is_empty(), "what has been quiet for long is forgotten");
    }

    #[test]
    fn a_burst_is_told_and_the_rest_in_time() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 0..30 {
            limiter.add(notice(&format!("web-{index:02}"), ""));
        }
        let told = |limiter: &mut Limiter, now| std::iter::from_fn(|| limiter.next(now)).count();
        assert_eq!(told(&mut limiter, now), 20);
        assert_eq!(limiter.next_due(now), Some(now + COST));
        assert_eq!(told(&mut limiter, now + COST), 1);
        assert_eq!(told(&mut limiter, now + 10 * COST), 9);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_in_mind() {
        let mut limiter = Limiter::new(QUIET);
        for index in 0..MOST_TOPICS {
            assert!(limiter.add(notice(&index.to_string(), "")));
        }
        assert!(!limiter.add(notice("one-more", "")));
        assert!(limiter.add(notice("0", "again")));
    }
}
