//! Whether the agent keeps up, in the words of kube-proxy's `/healthz` and `/livez`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs_core::model::Family;
use serde::Serialize;

use super::timestamp::rfc3339;

/// What the engine's thread has told, for whoever probes. One engine does both families, so both
/// are always as healthy as each other.
#[derive(Debug)]
pub struct Health {
    state: Mutex<HealthState>,
}

#[derive(Debug)]
struct HealthState {
    /// How long an update may wait.
    patience: Duration,
    last_updated: SystemTime,
    /// Since when an update has been waiting.
    queued: Option<Instant>,
    synced: bool,
    eligible: Option<bool>,
}

/// What a probe is told: the body of the answer.
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
    /// Whether the probe succeeds: status 200 rather than 503.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.healthy && self.node_eligible != Some(false)
    }
}

impl Health {
    /// Nothing has been queued yet, which is healthy; nothing is known of the node, which is not
    /// eligible. An update may wait for twice the sync period.
    #[must_use]
    pub fn new(started: SystemTime, sync_period: Duration) -> Self {
        Self {
            state: Mutex::new(HealthState {
                patience: sync_period.saturating_mul(2),
                last_updated: started,
                queued: None,
                synced: false,
                eligible: None,
            }),
        }
    }

    /// An update waits. Not to be called before the sources have told everything: until then there
    /// is nothing that could be done.
    pub fn queued(&self, now: Instant) {
        self.state().queued.get_or_insert(now);
    }

    /// Everything that was queued is in the kernel.
    pub fn updated(&self, now: SystemTime) {
        let mut state = self.state();
        state.queued = None;
        state.last_updated = now;
    }

    /// The first full sync is in the kernel.
    pub fn synced(&self) {
        self.state().synced = true;
    }

    /// Whether the node may get load balancer traffic; `None` while there is no such Node.
    pub fn set_eligible(&self, eligible: Option<bool>) {
        self.state().eligible = eligible;
    }

    /// Whether the first full sync is in the kernel: `/readyz`.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.state().synced
    }

    /// Whether no update has been waiting for too long.
    #[must_use]
    pub fn is_healthy(&self, now: Instant) -> bool {
        self.state().is_healthy(now)
    }

    /// What `/livez` says.
    #[must_use]
    pub fn livez(&self, now: Instant, time: SystemTime) -> HealthReport {
        self.report(now, time, None)
    }

    /// What `/healthz` says: a load balancer's traffic stays away from a node that is on its way
    /// out.
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
            // What succeeds is up to date, however long ago something last changed.
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
        self.queued.is_none_or(|since| now.saturating_duration_since(since) < self.patience)
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
