//! Rate limit of reports: repeated reports are counted and delivered together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

/// The least time between two reports of the same topic.
pub const QUIET: Duration = Duration::from_secs(300);
/// The number of reports that may follow each other at once, whatever their topics.
const BURST: u32 = 20;
/// The time that each report costs in the long run. A node with a wrong view of the cluster may be
/// one of thousands.
const COST: Duration = Duration::from_secs(10);
/// The number of topics.
const MOST_TOPICS: usize = 1000;
/// The number of topics of one group.
const MOST_OF_GROUP: usize = 250;

/// The subject of a report.
pub trait Topic: Ord + Clone {
    /// Returns the topic's group, such as a namespace. Topics of a group share its turns and its
    /// space, so that a namespace cannot keep the reports of others waiting.
    fn group(&self) -> &str;
}

/// An object as `namespace/name`.
impl Topic for String {
    fn group(&self) -> &str {
        self.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// A detail of another topic.
impl<T: Topic, D: Ord + Clone> Topic for (T, D) {
    fn group(&self) -> &str {
        self.0.group()
    }
}

/// Decides when a report is delivered.
///
/// The first report of a topic is delivered at once, unless there are too many. The last of those
/// that follow is delivered after a while, with their count. Groups with waiting reports take
/// turns. Within a group the order of arrival counts, so that many topics with well-chosen names do
/// not overtake others.
#[derive(Debug)]
pub struct Limiter<K, V> {
    quiet: Duration,
    topics: BTreeMap<K, TopicState<V>>,
    groups: BTreeMap<String, Group>,
    /// The number of topics with a waiting report.
    waiting: usize,
    turns: u64,
    /// The time until which the delivered reports are paid for.
    paid_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Group {
    topics: usize,
    /// The turn of the last delivery; 0 for none.
    reported: u64,
}

#[derive(Debug)]
struct TopicState<V> {
    reported: Option<Instant>,
    held: Option<Held<V>>,
}

#[derive(Debug)]
struct Held<V> {
    notice: V,
    /// The number of reports since the last delivery.
    count: u32,
    /// The least is delivered first.
    turn: u64,
}

impl<K: Topic, V> Limiter<K, V> {
    /// Reports a topic at most once per `quiet`; the agent uses [`QUIET`].
    #[must_use]
    pub fn new(quiet: Duration) -> Self {
        Self {
            quiet,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            waiting: 0,
            turns: 0,
            paid_until: None,
        }
    }

    /// Adds a report and returns whether there is space for it.
    pub fn add(&mut self, topic: K, notice: V) -> bool {
        let is_full = self.topics.len() >= MOST_TOPICS
            || self.groups.get(topic.group()).is_some_and(|it| it.topics >= MOST_OF_GROUP);
        if is_full && !self.topics.contains_key(&topic) {
            return false;
        }
        self.turns += 1;
        self.hold(topic, notice, self.turns);
        true
    }

    /// Adds a report of a topic that only the agent itself creates: it always has space and goes
    /// before others.
    pub fn add_first(&mut self, topic: K, notice: V) {
        self.hold(topic, notice, 0);
    }

    fn hold(&mut self, topic: K, notice: V, turn: u64) {
        let topic = match self.topics.entry(topic) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.groups.entry(new.key().group().to_owned()).or_default().topics += 1;
                new.insert(TopicState { reported: None, held: None })
            }
        };
        let (count, turn) = match &topic.held {
            Some(held) => (held.count.saturating_add(1), held.turn),
            None => {
                self.waiting += 1;
                (1, turn)
            }
        };
        topic.held = Some(Held { notice, count, turn });
    }

    /// Returns a report that is due, with its topic and the number of reports that it stands for.
    pub fn next(&mut self, now: Instant) -> Option<(K, V, u32)> {
        if self.topics.is_empty() || self.free_at().is_some_and(|at| at > now) {
            return None;
        }
        let quiet = self.quiet;
        let is_quiet = |topic: &TopicState<V>| topic.due(quiet).is_none_or(|at| at <= now);
        let groups = &mut self.groups;
        self.topics.retain(|key, topic| {
            let stays = topic.held.is_some() || !is_quiet(topic);
            if !stays && let Some(group) = groups.get_mut(key.group()) {
                group.topics -= 1;
            }
            stays
        });
        groups.retain(|_, group| group.topics > 0);
        let waiting = self.topics.iter_mut().filter(|(_, topic)| is_quiet(topic));
        let turns = waiting.filter_map(|(key, topic)| {
            let turn = topic.held.as_ref()?.turn;
            let reported = groups.get(key.group()).map_or(0, |group| group.reported);
            Some(((turn > 0, reported, turn), key, topic))
        });
        let (_, key, topic) = turns.min_by_key(|(turn, ..)| *turn)?;
        let Held { notice, count, .. } = topic.held.take()?;
        topic.reported = Some(now);
        let key = key.clone();
        self.turns += 1;
        if let Some(group) = groups.get_mut(key.group()) {
            group.reported = self.turns;
        }
        self.waiting -= 1;
        self.paid_until = Some(self.paid_until.map_or(now, |until| until.max(now)) + COST);
        Some((key, notice, count))
    }

    /// Returns when [`Limiter::next`] may return another report.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let held = self.topics.values().filter(|topic| topic.held.is_some());
        let first = held.map(|topic| topic.due(self.quiet).unwrap_or(now)).min()?;
        Some(self.free_at().map_or(first, |free| free.max(first)))
    }

    /// Returns when a further report is paid for.
    fn free_at(&self) -> Option<Instant> {
        self.paid_until?.checked_sub(COST * (BURST - 1))
    }
}

impl<V> TopicState<V> {
    /// Returns when the topic may be reported again.
    fn due(&self, quiet: Duration) -> Option<Instant> {
        self.reported.map(|reported| reported + quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str, number: usize) -> String {
        format!("{group}/{number}")
    }

    #[test]
    fn repeated_messages_are_written_once_and_then_counted() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        let [web, other] = ["web", "other"].map(str::to_owned);
        assert_eq!(limiter.next_due(now), None);
        limiter.add(web.clone(), "first");
        assert_eq!(limiter.next_due(now), Some(now));
        assert_eq!(limiter.next(now), Some((web.clone(), "first", 1)));
        limiter.add(web.clone(), "second");
        limiter.add(web.clone(), "third");
        limiter.add(other.clone(), "else");
        assert_eq!(limiter.next(now), Some((other, "else", 1)));
        assert_eq!(limiter.next(now), None);
        assert_eq!(limiter.next_due(now), Some(now + QUIET));
        assert_eq!(limiter.next(now + QUIET), Some((web, "third", 2)));
        assert_eq!(limiter.next(now + 3 * QUIET), None);
        assert!(limiter.topics.is_empty(), "what has been quiet for long is forgotten");
        assert!(limiter.groups.is_empty(), "with its group");
    }

    #[test]
    fn a_burst_is_written_and_the_rest_is_paced() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 0..30 {
            limiter.add(of("one", index), ());
        }
        let reported =
            |limiter: &mut Limiter<_, _>, now| std::iter::from_fn(|| limiter.next(now)).count();
        assert_eq!(reported(&mut limiter, now), 20);
        assert_eq!(limiter.next_due(now), Some(now + COST));
        assert_eq!(reported(&mut limiter, now + COST), 1);
        assert_eq!(reported(&mut limiter, now + 10 * COST), 9);
    }

    #[test]
    fn longer_waiting_topics_go_first() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 100..100 + BURST as usize {
            limiter.add(of("one", index), ());
        }
        while limiter.next(now).is_some() {}
        for index in (0..50).rev() {
            limiter.add(of("one", index), ());
        }
        limiter.add_first(of("one", 1000), ());
        let reported: Vec<_> = (1..4)
            .filter_map(|turn| limiter.next(now + turn * COST))
            .map(|(topic, ..)| topic)
            .collect();
        assert_eq!(reported, [of("one", 1000), of("one", 49), of("one", 48)]);
    }

    #[test]
    fn a_group_with_many_topics_does_not_delay_others() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        let many = |limiter: &mut Limiter<_, _>, second: usize| {
            (0..100).filter(|index| limiter.add(of("many", 100 * second + index), ())).count()
        };
        let taken: usize = (0..10).map(|second| many(&mut limiter, second)).sum();
        assert_eq!(taken, MOST_OF_GROUP);
        while limiter.next(now).is_some() {}
        for index in 0..3 {
            assert!(limiter.add(of("few", index), ()), "there is room for others");
        }
        let reported: Vec<_> = (1..7)
            .filter_map(|turn| {
                many(&mut limiter, 10 + turn as usize);
                limiter.next(now + turn * COST)
            })
            .map(|(topic, ..)| topic.group().to_owned())
            .collect();
        assert_eq!(reported, ["few", "many", "few", "many", "few", "many"]);
        assert!(limiter.topics.len() <= MOST_OF_GROUP + 3);
    }

    #[test]
    fn remembered_topics_are_bounded() {
        let mut limiter = Limiter::new(QUIET);
        for index in 0..MOST_TOPICS {
            assert!(limiter.add(of(&index.to_string(), index), ""));
        }
        assert!(!limiter.add(of("another", 0), "one more"));
        assert!(limiter.add(of("0", 0), "again"));
        limiter.add_first(of("another", 0), "first");
        assert_eq!(limiter.next(Instant::now()), Some((of("another", 0), "first", 1)));
        assert!(limiter.groups.len() <= MOST_TOPICS + 1);
    }
}
