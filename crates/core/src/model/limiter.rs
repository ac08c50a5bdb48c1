//! How often what is told: what repeats is counted and told together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

/// Time between two notices of the same topic.
pub const QUIET: Duration = Duration::from_secs(300);
/// Notices that may follow one another at once, whatever they are about,
const BURST: u32 = 20;
/// and time that each costs in the long run. A node with a wrong idea of the whole cluster is one
/// of thousands.
const COST: Duration = Duration::from_secs(10);
/// Topics that are kept in mind,
const MOST_TOPICS: usize = 1000;
/// and those of one group.
const MOST_OF_GROUP: usize = 250;

/// What notices are told of.
pub trait Topic: Ord + Clone {
    /// Topics of a group, such as a namespace, share its turns and its room. Who writes its objects can
    /// keep nobody else's notices from being told.
    fn group(&self) -> &str;
}

/// An object by its namespace and name, with a slash between them.
impl Topic for String {
    fn group(&self) -> &str {
        self.split_once('/').map_or("", |(namespace, _)| namespace)
    }
}

/// Something about what another topic names.
impl<T: Topic, D: Ord + Clone> Topic for (T, D) {
    fn group(&self) -> &str {
        self.0.group()
    }
}

/// Decides when a notice may be told: at once, if its topic is a new one and there are not too many; and
/// the last of those that follow after a while, with their count. Groups that have something that waits
/// take turns. Within a group, notices are told in the order in which they came, lest whoever has many
/// topics with well-chosen names goes before all others.
#[derive(Debug)]
pub struct Limiter<K, V> {
    quiet: Duration,
    topics: BTreeMap<K, TopicState<V>>,
    /// Those of the topics.
    groups: BTreeMap<String, Group>,
    /// How many topics have something that waits.
    waiting: usize,
    /// How many have waited so far.
    turns: u64,
    /// Until when what has been told has its cost.
    paid_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Group {
    topics: usize,
    /// When it was told of last, as a turn; 0 if never.
    told: u64,
}

#[derive(Debug)]
struct TopicState<V> {
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

impl<K: Topic, V> Limiter<K, V> {
    /// Tells of a topic at most once in the time `quiet`; the agent's is [`QUIET`].
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

    /// Takes in a notice. Says whether there is room for it.
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

    /// Takes in a notice of one of a few topics that nobody else can add to: there is room for it, and it
    /// goes before others.
    pub fn add_first(&mut self, topic: K, notice: V) {
        self.hold(topic, notice, 0);
    }

    fn hold(&mut self, topic: K, notice: V, turn: u64) {
        let topic = match self.topics.entry(topic) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.groups.entry(new.key().group().to_owned()).or_default().topics += 1;
                new.insert(TopicState { told: None, held: None })
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

    /// A notice that may be told now, with its topic and how many it stands for.
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
            let told = groups.get(key.group()).map_or(0, |group| group.told);
            Some(((turn > 0, told, turn), key, topic))
        });
        let (_, key, topic) = turns.min_by_key(|(turn, ..)| *turn)?;
        let Held { notice, count, .. } = topic.held.take()?;
        topic.told = Some(now);
        let key = key.clone();
        self.turns += 1;
        if let Some(group) = groups.get_mut(key.group()) {
            group.told = self.turns;
        }
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

impl<V> TopicState<V> {
    /// From when on it may be told again.
    fn due(&self, quiet: Duration) -> Option<Instant> {
        self.told.map(|told| told + quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(group: &str, number: usize) -> String {
        format!("{group}/{number}")
    }

    #[test]
    fn what_repeats_is_told_once_and_then_with_its_count() {
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
    fn a_burst_is_told_and_the_rest_in_time() {
        let (mut limiter, now) = (Limiter::new(QUIET), Instant::now());
        for index in 0..30 {
            limiter.add(of("one", index), ());
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
        for index in 100..100 + BURST as usize {
            limiter.add(of("one", index), ());
        }
        while limiter.next(now).is_some() {}
        for index in (0..50).rev() {
            limiter.add(of("one", index), ());
        }
        limiter.add_first(of("one", 1000), ());
        let told: Vec<_> = (1..4)
            .filter_map(|turn| limiter.next(now + turn * COST))
            .map(|(topic, ..)| topic)
            .collect();
        assert_eq!(told, [of("one", 1000), of("one", 49), of("one", 48)]);
    }

    #[test]
    fn a_group_with_many_topics_keeps_no_other_waiting() {
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
        let told: Vec<_> = (1..7)
            .filter_map(|turn| {
                many(&mut limiter, 10 + turn as usize);
                limiter.next(now + turn * COST)
            })
            .map(|(topic, ..)| topic.group().to_owned())
            .collect();
        assert_eq!(told, ["few", "many", "few", "many", "few", "many"]);
        assert!(limiter.topics.len() <= MOST_OF_GROUP + 3);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_in_mind() {
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
