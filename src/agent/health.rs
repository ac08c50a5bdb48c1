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

#[derive(Debug)]
struct HealthState {
    /// How long an update may be pending.
    max_delay: Duration,
    last_updated: SystemTime,
    /// The time of the oldest pending update.
    queued: Option<Instant>,
    synced: bool,
    eligible: Option<bool>,
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
            }),
        }
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

    /// Returns the answer to `/healthz`, which fails if the node is about to be removed, so that
    /// load balancers avoid it.
    #[must_use]
    pub fn healthz(&self, now: Instant, time: SystemTime) -> HealthReport {
        let eligible = self.state().eligible.unwrap_or(false);
        self.report(now, time, Some(eligible))
    }

    fn report(&self, now: Instant, time: SystemTime, node_eligible: Option<bool>) -> HealthReport {
        let (healthy, last_updated) = {
            let state = self.state();
            (state.is_healthy(now), rfc3339(state.last_updated))
        };
        let current_time = rfc3339(time);
        let of_family = FamilyReport { last_updated: last_updated.clone(), healthy };
        let status = Family::BOTH.map(|family| (family.to_string(), of_family.clone()));
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
    fn ready_once_synced() {
        let health = Health::new(STARTED, SYNC_PERIOD);
        assert!(!health.is_synced());
        health.synced();
        assert!(health.is_synced());
    }
}
