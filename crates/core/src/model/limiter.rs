//! How often what is told: what repeats is counted and told together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two notices of the same topic.
pub const QUIET: Duration = Duration::from_secs(300);
/// Notices that may follow one another at once, whatever they are about,
const BURST: u32 = 20;
/// and time that each costs in the long run. A node with a wrong idea of the whole cluster is one
/// of thousands.
const COST: Duration = Duration::from_secs(10);
/// Topics that are kept in mind.
const MOST_TOPICS: usize = 1000;

/// Decides when a notice may be told: at once, if its topic is a new one and there are not too many; and
/// the last of those that follow after a while, with their count. Those that wait are told in the order
/// in which they came, lest whoever has many topics with well-chosen names goes before all others.
#[derive(Debug)]
pub struct Limiter<K, V> {
    quiet: Duration,
    topics: BTreeMap<K, Topic<V>>,
    /// How many topics have something that waits.
    waiting: usize,
    /// How many have waited so far.
    turns: u64,
    /// Until when what has been told has its cost.
    paid_until: Option<Instant>,
}

#[derive(Debug)]
struct Topic<V> {
    told: Option<Instant>,
    held: Option<Held<V>>,
}

/// Waits to be told.
#[derive(Debug)]
struct Held<V> {
    /// The latest.
    notice: V,
    /// How many there have been since the last that was told.
    count: u32,
    /// The least is told first.
    turn: u64,
}

impl<K: Ord + Clone, V> Limiter<K, V> {
    /// Tells of a topic at most once in the time `quiet`; the agent's is [`QUIET`].
    #[must_use]
    pub fn new(quiet: Duration) -> Self {
        Self { quiet, topics: BTreeMap::new(), waiting: 0, turns: 0, paid_until: None }
    }

    /// Takes in a notice. Says whether there is room for it.
    pub fn add(&mut self, topic: K, notice: V) -> bool {
        if self.topics.len() >= MOST_TOPICS && !self.topics.contains_key(&topic) {
            return false;
        }
        self.turns += 1;
        self.hold(topic, notice, self.turns);
        true
    }

    /// Takes in a notice of one of a few topics that nobody else can add to: there is room for it, and it
    /// goes before others.
    pub fn add_first(&mut self, topic: K, notice: V) {
        self.hold(topic, notice, 0);
    }

    fn hold(&mut self, topic: K, notice: V, turn: u64) {
        let topic = self.topics.entry(topic).or_insert(Topic { told: None, held: None });
        let (count, turn) = match &topic.held {
            Some(held) => (held.count.saturating_add(1), held.turn),
            None => {
                self.waiting += 1;
                (1, turn)
            }
        };
        topic.held = Some(Held { notice, count, turn });
    }

    /// A notice that may be told now, with its topic and how many it stands for.
    pub fn next(&mut self, now: Instant) -> Option<(K, V, u32)> {
        if self.topics.is_empty() || self.free_at().is_some_and(|at| at > now) {
            return None;
        }
        let quiet = self.quiet;
        let is_quiet = |topic: &Topic<V>| topic.due(quiet).is_none_or(|at| at <= now);
        self.topics.retain(|_, topic| topic.held.is_some() || !is_quiet(topic));
        let waiting = self.topics.iter_mut().filter(|(_, topic)| is_quiet(topic));
        let turns =
            waiting.filter_map(|(key, topic)| Some((topic.held.as_ref()?.turn, key, topic)));
        let (_, key, topic) = turns.min_by_key(|(turn, ..)| *turn)?;
        let Held { notice, count, .. } = topic.held.take()?;
        topic.told = Some(now);
        let key = key.clone();
        self.waiting -= 1;
        self.paid_until = Some(self.paid_until.map_or(now, |until| until.max(now)) + COST);
        Some((key, notice, count))
    }

    /// When [`Limiter::next`] may have something that it does not have now.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let held = self.topics.values().filter(|topic| topic.held.is_some());
        let first = held.map(|topic| topic.due(self.quiet).unwrap_or(now)).min()?;
        Some(self.free_at().map_or(first, |free| free.max(first)))
    }

    /// From when on a further notice may be told.
    fn free_at(&self) -> Option<Instant> {
        self.paid_until?.checked_sub(COST * (BURST - 1))
    }
}

impl<V> Topic<V> {
    /// From when on it may be told again.
    fn due(&self, quiet: Duration) -> Option<Instant> {
        self.told.map(|told| told + quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_told_once_and_then_with_its_count() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        assert_eq!(limiter.next_due(now), None);
        limiter.add("web", "first");
        assert_eq!(limiter.next_due(now), Some(now));
        assert_eq!(limiter.next(now), Some(("web", "first", 1)));
        limiter.add("web", "second");
        limiter.add("web", "third");
        limiter.add("other", "else");
        assert_eq!(limiter.next(now), Some(("other", "else", 1)));
        assert_eq!(limiter.next(now), None);
        assert_eq!(limiter.next_due(now), Some(now + QUIET));
        assert_eq!(limiter.next(now + QUIET), Some(("web", "third", 2)));
        assert_eq!(limiter.next(now + 3 * QUIET), None);
        assert!(limiter.topics.is_empty(), "what has been quiet for long is forgotten");
    }

    #[test]
    fn a_burst_is_told_and_the_rest_in_time() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 0..30 {
            limiter.add(index, ());
        }
        let told =
            |limiter: &mut Limiter<_, _>, now| std::iter::from_fn(|| limiter.next(now)).count();
        assert_eq!(told(&mut limiter, now), 20);
        assert_eq!(limiter.next_due(now), Some(now + COST));
        assert_eq!(told(&mut limiter, now + COST), 1);
        assert_eq!(told(&mut limiter, now + 10 * COST), 9);
    }

    #[test]
    fn who_waits_longer_goes_before_others() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 100..100 + BURST {
            limiter.add(index, ());
        }
        while limiter.next(now).is_some() {}
        for index in (0..50).rev() {
            limiter.add(index, ());
        }
        limiter.add_first(1000, ());
        let told: Vec<_> = (1..4)
            .filter_map(|turn| limiter.next(now + turn * COST))
            .map(|(topic, ..)| topic)
            .collect();
        assert_eq!(told, [1000, 49, 48]);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_in_mind() {
        let mut limiter = Limiter::new(QUIET);
        for index in 0..MOST_TOPICS {
            assert!(limiter.add(index, ""));
        }
        assert!(!limiter.add(MOST_TOPICS, "one more"));
        assert!(limiter.add(0, "again"));
        limiter.add_first(MOST_TOPICS, "first");
        assert!(limiter.next(Instant::now()).is_some_and(|(topic, ..)| topic == MOST_TOPICS));
    }
}
