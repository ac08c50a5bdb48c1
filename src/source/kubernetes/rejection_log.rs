//! Tells what cannot be used of an object: once, not with every list, and not as often as it changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use kube_ipvs_core::model::{Limiter, QUIET};
use tracing::{info, warn};

use crate::source::wire::Rejection;

/// What has been found, and when it is told.
#[derive(Debug)]
pub(super) struct RejectionLog {
    /// What is wrong with each object: no more than is needed to know that it is the same again.
    known: HashMap<String, u64>,
    /// Known before the list that is being read.
    before: HashMap<String, u64>,
    limiter: Limiter<String, Vec<Rejection>>,
    /// When the limiter has something to tell.
    due: Option<Instant>,
}

impl Default for RejectionLog {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            before: HashMap::new(),
            limiter: Limiter::new(QUIET),
            due: None,
        }
    }
}

impl RejectionLog {
    /// A list begins: what it does not mention again is forgotten.
    pub(super) fn begin_list(&mut self) {
        self.before.extend(std::mem::take(&mut self.known));
    }

    /// The list is complete.
    pub(super) fn end_list(&mut self) {
        self.before.clear();
    }

    /// Takes down what is wrong with an object now, which may be nothing.
    pub(super) fn update(&mut self, object: &str, rejections: Vec<Rejection>, now: Instant) {
        if self.known.is_empty() && self.before.is_empty() && rejections.is_empty() {
            return;
        }
        let known = self.known.remove(object).or_else(|| self.before.remove(object));
        let found = (!rejections.is_empty()).then(|| digest(&rejections));
        if let Some(found) = found {
            self.known.insert(object.to_owned(), found);
        }
        if known != found {
            self.limiter.add(object.to_owned(), rejections);
            self.due = self.limiter.next_due(now);
        }
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, object: &str) {
        self.known.remove(object);
    }

    /// Logs what is to be told by now.
    pub(super) fn tell(&mut self) {
        let Some(due) = self.due else { return };
        let now = Instant::now();
        if due > now {
            return;
        }
        while let Some(LoggedRejections { object, rejections, count }) = self.next(now) {
            rejections.iter().for_each(|rejection| warn!("{rejection}"));
            match (rejections.is_empty(), count) {
                (true, 1) => info!("{object}: all of it can be used now"),
                (true, _) => info!("{object}: all of it can be used now, after {count} changes"),
                (false, 1) => {}
                (false, _) => info!("{object}: has changed {count} times since it was told last"),
            }
        }
    }

    fn next(&mut self, now: Instant) -> Option<LoggedRejections> {
        let next = self.limiter.next(now);
        self.due = self.limiter.next_due(now);
        next.map(|(object, rejections, count)| LoggedRejections { object, rejections, count })
    }
}

/// What is to be told of an object.
struct LoggedRejections {
    object: String,
    /// What is wrong with it now; nothing any more, perhaps.
    rejections: Vec<Rejection>,
    /// How often that has changed since it was told last.
    count: u32,
}

fn digest(rejections: &[Rejection]) -> u64 {
    let mut hasher = DefaultHasher::new();
    rejections.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube_ipvs_core::model::Interner;
    use serde_json::json;

    use super::*;
    use crate::source::wire::ServiceObject;

    /// A Service with many external IPs that are no addresses, and different in each round.
    fn rejections(round: u64) -> Vec<Rejection> {
        let ips: Vec<_> = (0..100).map(|index| format!("{round}-{index:01000}")).collect();
        let spec = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 80}], "externalIPs": ips});
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        let object: ServiceObject = serde_json::from_value(object).expect("a Service");
        object.convert(&mut Interner::default()).1
    }

    #[test]
    fn a_service_that_is_rewritten_every_second_writes_a_few_lines() {
        let (mut complaints, start) = (RejectionLog::default(), Instant::now());
        let mut lines: Vec<String> = Vec::new();
        for second in 0..400 {
            let now = start + Duration::from_secs(second);
            // Now and then there is nothing wrong with it.
            let found = if second % 4 == 0 { Vec::new() } else { rejections(second) };
            complaints.update("default/web", found, now);
            while let Some(LoggedRejections { object, rejections, count }) = complaints.next(now) {
                lines.extend(rejections.iter().map(ToString::to_string));
                lines.push(format!("{object} {count}"));
            }
        }
        // Told at the start and after five minutes.
        assert!((7..=14).contains(&lines.len()), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("default/web ")).count(), 2);
        assert!(lines.iter().all(|line| line.len() < 500), "{lines:?}");
    }

    #[test]
    fn what_has_not_changed_is_told_once() {
        let (mut complaints, now) = (RejectionLog::default(), Instant::now());
        let found = rejections(0);
        for _ in 0..3 {
            complaints.begin_list();
            complaints.update("default/web", found.clone(), now);
            complaints.update("default/fine", Vec::new(), now);
            complaints.end_list();
        }
        let told = complaints.next(now).expect("a complaint");
        assert_eq!((told.object.as_str(), told.rejections, told.count), ("default/web", found, 1));
        assert!(complaints.next(now + QUIET).is_none());
        complaints.update("default/web", Vec::new(), now);
        let told = complaints.next(now + QUIET).expect("that all is well");
        assert!(told.rejections.is_empty());
    }
}
