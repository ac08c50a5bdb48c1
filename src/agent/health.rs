//! The health of the agent, as in kube-proxy's `/healthz` and `/livez`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs_core::model::Family;
use serde::Serialize;

use super::timestamp::rfc3339;

/// The health of the engine's thread, for probes. One engine handles both families, so both always
/// have the same health.
#[derive(Debug)]
pub struct Health {
    state: Mutex<HealthState>,
}

/// How long the canary fails before `/healthz` does: a false alarm would take every node out.
const LONGEST_CANARY: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct HealthState {
    /// How long an update may be pending.
    max_delay: Duration,
    last_updated: SystemTime,
    /// The time of the oldest pending update.
    queued: Option<Instant>,
    synced: bool,
    eligible: Option<bool>,
    /// Whether `/healthz` fails with the canary.
    follows_canary: bool,
    /// Since when the canary of each family fails.
    canary: [Option<Instant>; 2],
}

/// The body of a probe's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: BTreeMap<String, FamilyReport>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyReport {
    last_updated: String,
    healthy: bool,
}

impl HealthReport {
    /// Returns whether the probe succeeds, with status 200 instead of 503.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.healthy && self.node_eligible != Some(false)
    }
}

impl Health {
    /// Returns the initial state: healthy without pending updates, and not eligible without a Node.
    /// An update may be pending for twice the sync period.
    #[must_use]
    pub fn new(started: SystemTime, sync_period: Duration) -> Self {
        Self {
            state: Mutex::new(HealthState {
                max_delay: sync_period.saturating_mul(2),
                last_updated: started,
                queued: None,
                synced: false,
                eligible: None,
                follows_canary: false,
                canary: [None; 2],
            }),
        }
    }

    /// Sets whether `/healthz` fails once the canary has failed for 30 seconds.
    #[must_use]
    pub fn following_canary(self, follows: bool) -> Self {
        self.state().follows_canary = follows;
        self
    }

    /// Sets since when the canary of a family fails, if it does.
    pub fn set_canary(&self, family: Family, failing_since: Option<Instant>) {
        *family.pick_mut(&mut self.state().canary) = failing_since;
    }

    /// Records a pending update. The caller waits until the sources have listed everything: before,
    /// no update is possible.
    pub fn queued(&self, now: Instant) {
        self.state().queued.get_or_insert(now);
    }

    pub fn updated(&self, now: SystemTime) {
        let mut state = self.state();
        state.queued = None;
        state.last_updated = now;
    }

    pub fn synced(&self) {
        self.state().synced = true;
    }

    /// Sets whether the node may get load balancer traffic; `None` without a Node.
    pub fn set_eligible(&self, eligible: Option<bool>) {
        self.state().eligible = eligible;
    }

    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.state().synced
    }

    #[must_use]
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.state().is_healthy(now)
    }

    #[must_use]
    pub fn livez(&self, now: Instant, time: SystemTime) -> HealthReport {
        self.report(now, time, None)
    }

    /// Returns the answer to `/healthz`. It fails if the node is about to be removed, so that load
    /// balancers avoid it, and if it follows the canary.
    #[must_use]
    pub fn healthz(&self, now: Instant, time: SystemTime) -> HealthReport {
        let eligible = self.state().eligible.unwrap_or(false);
        self.report(now, time, Some(eligible))
    }

    fn report(&self, now: Instant, time: SystemTime, node_eligible: Option<bool>) -> HealthReport {
        let (families, last_updated) = {
            let state = self.state();
            let is_healthy = |family| {
                let follows_canary = node_eligible.is_some();
                state.is_healthy(now) && !(follows_canary && state.lacks_canary(family, now))
            };
            (Family::BOTH.map(is_healthy), rfc3339(state.last_updated))
        };
        let healthy = families == [true; 2];
        let current_time = rfc3339(time);
        let status = Family::BOTH.map(|family| {
            let healthy = *family.pick(&families);
            (family.to_string(), FamilyReport { last_updated: last_updated.clone(), healthy })
        });
        let mut report = HealthReport {
            last_updated,
            current_time,
            node_eligible,
            healthy,
            status: BTreeMap::from(status),
        };
        if report.is_success() {
            // A successful answer is up to date, even if the last change was long ago.
            report.last_updated.clone_from(&report.current_time);
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    fn is_healthy(&self, now: Instant) -> bool {
        self.queued.is_none_or(|since| now.saturating_duration_since(since) < self.max_delay)
    }

    /// Returns whether the canary of a family has failed for too long.
    fn lacks_canary(&self, family: Family, now: Instant) -> bool {
        let has_lasted = |since| now.saturating_duration_since(since) >= LONGEST_CANARY;
        self.follows_canary && family.pick(&self.canary).is_some_and(has_lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: SystemTime = SystemTime::UNIX_EPOCH;
    const SYNC_PERIOD: Duration = Duration::from_secs(30);

    fn json(report: &HealthReport) -> String {
        serde_json::to_string(report).unwrap_or_default()
    }

    #[test]
    fn body_is_kube_proxys() {
        let health = Health::new(STARTED, SYNC_PERIOD);
        health.set_eligible(Some(true));
        health.updated(STARTED + Duration::from_millis(1500));
        let now = STARTED + Duration::from_secs(60);
        assert_eq!(
            json(&health.healthz(Instant::now(), now)),
            r#"{"lastUpdated":"1970-01-01T00:01:00Z","currentTime":"1970-01-01T00:01:00Z","nodeEligible":true,"healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:01.5Z","healthy":true},"IPv6":{"lastUpdated":"1970-01-01T00:00:01.5Z","healthy":true}}}"#
        );
        assert_eq!(
            json(&health.livez(Instant::now(), now)),
            r#"{"lastUpdated":"1970-01-01T00:01:00Z","currentTime":"1970-01-01T00:01:00Z","healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:01.5Z","healthy":true},"IPv6":{"lastUpdated":"1970-01-01T00:00:01.5Z","healthy":true}}}"#
        );
    }

    #[test]
    fn update_may_wait_for_two_sync_periods() {
        let health = Health::new(STARTED, SYNC_PERIOD);
        let start = Instant::now();
        let healthy = |seconds| health.is_healthy(start + Duration::from_secs(seconds));
        assert!(healthy(1000));
        health.queued(start);
        health.queued(start + Duration::from_secs(50));
        assert!(healthy(59));
        assert!(!healthy(60), "the oldest update counts");
        let late = health.livez(start + Duration::from_secs(60), STARTED + Duration::from_secs(60));
        assert!(!late.is_success());
        assert_eq!(late.last_updated, "1970-01-01T00:00:00Z");
        health.updated(STARTED);
        assert!(healthy(120));
    }

    #[test]
    fn ineligible_node_fails_healthz_only() {
        let health = Health::new(STARTED, SYNC_PERIOD);
        let probes = || {
            let healthz = health.healthz(Instant::now(), STARTED);
            (
                healthz.is_success(),
                healthz.healthy,
                health.livez(Instant::now(), STARTED).is_success(),
            )
        };
        assert_eq!(probes(), (false, true, true));
        health.set_eligible(Some(true));
        assert_eq!(probes(), (true, true, true));
        health.set_eligible(Some(false));
        assert_eq!(probes(), (false, true, true));
    }

    #[test]
    fn healthz_follows_the_canary_if_it_is_told_to() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (follows, expected) in [(false, [true; 3]), (true, [true, true, false])] {
            let health = Health::new(STARTED, SYNC_PERIOD).following_canary(follows);
            health.set_eligible(Some(true));
            let healthz = |seconds| health.healthz(at(seconds), STARTED).is_success();
            let before = healthz(1000);
            health.set_canary(Family::V6, Some(start));
            assert_eq!([before, healthz(29), healthz(30)], expected);
            assert!(health.livez(at(1000), STARTED).is_success());
            let report = json(&health.healthz(at(30), STARTED));
            let of_v6 = r#""IPv6":{"lastUpdated":"1970-01-01T00:00:00Z","healthy":false}"#;
            assert_eq!(report.contains(of_v6), !expected[2], "{report}");
            assert_eq!(report.matches(r#""healthy":false"#).count() == 2, !expected[2]);
            health.set_canary(Family::V6, None);
            assert!(healthz(1000));
        }
    }

    #[test]
    fn ready_once_synced() {
        let health = Health::new(STARTED, SYNC_PERIOD);
        assert!(!health.is_synced());
        health.synced();
        assert!(health.is_synced());
    }
}
