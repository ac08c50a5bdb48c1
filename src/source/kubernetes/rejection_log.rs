//! Logs the invalid parts of objects: once instead of with every list, and at a limited rate.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use kube_ipvs_core::model::{Limiter, QUIET};
use tracing::{info, warn};

use crate::source::wire::Rejection;

/// The known rejections and the pending log lines.
#[derive(Debug)]
pub(super) struct RejectionLog {
    /// A digest of each object's rejections, to detect changes, and whether the current list
    /// contains the object.
    known: HashMap<String, (u64, bool)>,
    limiter: Limiter<String, Vec<Rejection>>,
    /// When the limiter has a report.
    due: Option<Instant>,
}

impl Default for RejectionLog {
    fn default() -> Self {
        Self { known: HashMap::new(), limiter: Limiter::new(QUIET), due: None }
    }
}

impl RejectionLog {
    /// Begins a list: objects that it does not contain are forgotten.
    pub(super) fn begin_list(&mut self) {
        self.known.values_mut().for_each(|(_, is_listed)| *is_listed = false);
    }

    pub(super) fn end_list(&mut self) {
        self.known.retain(|_, (_, is_listed)| *is_listed);
    }

    /// Records the rejections of an object, which may be empty.
    pub(super) fn update(&mut self, object: &str, rejections: Vec<Rejection>, now: Instant) {
        if self.known.is_empty() && rejections.is_empty() {
            return;
        }
        let known = self.known.remove(object).map(|(known, _)| known);
        let found = (!rejections.is_empty()).then(|| digest(&rejections));
        if let Some(found) = found {
            self.known.insert(object.to_owned(), (found, true));
        }
        if known != found {
            self.limiter.add(object.to_owned(), rejections);
            self.due = self.limiter.next_due(now);
        }
    }

    pub(super) fn forget(&mut self, object: &str) {
        self.known.remove(object);
    }

    pub(super) fn log(&mut self) {
        let Some(due) = self.due else { return };
        let now = Instant::now();
        if due > now {
            return;
        }
        while let Some((object, rejections, count)) = self.next(now) {
            rejections.iter().for_each(|rejection| warn!("{rejection}"));
            match (rejections.is_empty(), count) {
                (true, 1) => info!("{object}: all of it is valid now"),
                (true, _) => info!("{object}: all of it is valid now, after {count} changes"),
                (false, 1) => {}
                (false, _) => info!("{object}: changed {count} times since the last report"),
            }
        }
    }

    /// Returns an object with its rejections, which are empty if it has become valid, and the number
    /// of changes since the last report.
    fn next(&mut self, now: Instant) -> Option<(String, Vec<Rejection>, u32)> {
        let next = self.limiter.next(now);
        self.due = self.limiter.next_due(now);
        next
    }
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
    use crate::source::wire::{Resource, ServiceObject};

    /// Returns the rejections of a Service with many invalid external IPs that differ in each
    /// round.
    fn rejections(round: u64) -> Vec<Rejection> {
        let ips: Vec<_> = (0..100).map(|index| format!("{round}-{index:01000}")).collect();
        let spec = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 80}], "externalIPs": ips});
        let object = json!({"metadata": {"name": "web"}, "spec": spec});
        let object: ServiceObject = serde_json::from_value(object).expect("a Service");
        object.convert(&mut Interner::default()).1
    }

    #[test]
    fn a_service_rewritten_every_second_logs_few_lines() {
        let (mut log, start) = (RejectionLog::default(), Instant::now());
        let mut lines: Vec<String> = Vec::new();
        for second in 0..400 {
            let now = start + Duration::from_secs(second);
            // The Service is valid in between.
            let found = if second % 4 == 0 { Vec::new() } else { rejections(second) };
            log.update("default/web", found, now);
            while let Some((object, rejections, count)) = log.next(now) {
                lines.extend(rejections.iter().map(ToString::to_string));
                lines.push(format!("{object} {count}"));
            }
        }
        // Logged at the start and after five minutes.
        assert!((7..=14).contains(&lines.len()), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("default/web ")).count(), 2);
        assert!(lines.iter().all(|line| line.len() < 500), "{lines:?}");
    }

    #[test]
    fn an_unchanged_rejection_is_logged_once() {
        let (mut log, now) = (RejectionLog::default(), Instant::now());
        let found = rejections(0);
        for _ in 0..3 {
            log.begin_list();
            log.update("default/web", found.clone(), now);
            log.update("default/fine", Vec::new(), now);
            log.end_list();
        }
        assert_eq!(log.next(now), Some(("default/web".to_owned(), found, 1)));
        assert!(log.next(now + QUIET).is_none());
        log.update("default/web", Vec::new(), now);
        let (_, rejections, _) = log.next(now + QUIET).expect("a report of the recovery");
        assert!(rejections.is_empty());
    }
}
