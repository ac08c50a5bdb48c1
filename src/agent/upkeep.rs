//! Keeps kernel settings as Services need them, and reports firewalls that drop traffic of
//! Services.

use std::collections::BTreeMap;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_ipvs_core::desired::NodeContext;
use kube_ipvs_core::model::Family;
use tracing::{debug, info, warn};

use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use super::metrics::Metrics;
use crate::kernel::firewall;
use crate::kernel::sysctl::{self, Sysctl};

/// The least time between two checks.
const AGAIN: Duration = Duration::from_secs(25);
/// The number of drifts of a setting after which an Event reports it.
const LASTING: u32 = 4;

/// Reads the kernel settings periodically and repairs drift.
pub(super) struct Upkeep {
    /// The root of the settings.
    sysctls: PathBuf,
    metrics: Arc<Metrics>,
    notices: EventRecorder,
    checked: Option<Instant>,
    /// The number of drifts of each setting, by path.
    drifts: BTreeMap<&'static str, u32>,
    /// Whether the chains of other programs must be read.
    is_firewall_due: bool,
    reported_firewall: Option<String>,
}

impl Upkeep {
    pub(super) fn new(
        sysctls: impl Into<PathBuf>,
        metrics: Arc<Metrics>,
        notices: EventRecorder,
    ) -> Self {
        Self {
            sysctls: sysctls.into(),
            metrics,
            notices,
            checked: None,
            drifts: BTreeMap::new(),
            is_firewall_due: false,
            reported_firewall: None,
        }
    }

    /// Called with each part of an audit; checks at most once per [`AGAIN`].
    pub(super) fn check_again(&mut self) {
        if self.checked.is_none_or(|at| at.elapsed() > AGAIN) {
            self.check();
        }
    }

    /// Called with each audit.
    pub(super) fn check(&mut self) {
        self.checked = Some(Instant::now());
        self.is_firewall_due = true;
        for report in sysctl::apply(&self.sysctls, Sysctl::needed(&Family::BOTH)) {
            let (sysctl, settings) = (report.sysctl, &self.metrics.settings);
            if report.is_set() {
                settings.with_label_values(&[&*sysctl.name(), "put_right"]).inc();
                let why = sysctl.why;
                self.report_drift(
                    sysctl,
                    &format!("another program has changed a setting: {report}, or {why}"),
                );
            } else {
                settings.with_label_values(&[&*sysctl.name(), "refused"]).inc();
                self.report_drift(sysctl, &report.to_string());
            }
        }
    }

    /// Reads the chains of other programs if the settings have been read since the last call.
    /// Called once the context is up to date.
    pub(super) fn check_firewall(&mut self, context: &NodeContext) {
        if !mem::take(&mut self.is_firewall_due) {
            return;
        }
        match firewall::report(&context.service_ranges, &context.settings.carry) {
            Ok(report) => self.report_firewall(report.map(|report| {
                format!(
                    "a firewall is in the way of Services: {}; unless another rule of it lets them in, \
                     add what `kube-ipvs doctor` says: {}",
                    report.found,
                    report.mend.join("; ")
                )
            })),
            Err(error) => debug!("cannot read the chains of other programs: {error}"),
        }
    }

    fn report_firewall(&mut self, message: Option<String>) {
        if self.reported_firewall == message {
            return;
        }
        self.reported_firewall.clone_from(&message);
        match message {
            Some(message) => {
                let reason = EventReason::FirewallDrops;
                self.notices.report(ReportedEvent { about: InvolvedObject::Node, reason, message });
            }
            None => info!("no firewall drops traffic of Services any more"),
        }
    }

    /// Reports a drift the first time, and then each time the number has doubled.
    fn report_drift(&mut self, sysctl: Sysctl, what: &str) {
        let times = self.drifts.entry(sysctl.path).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        if times >= LASTING && times.is_power_of_two() {
            let message = format!("{what}; found {times} times");
            let reason = EventReason::SettingDrift;
            self.notices.report(ReportedEvent { about: InvolvedObject::Node, reason, message });
        } else if times.is_power_of_two() {
            warn!("{what}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::sysctl::NEEDED;

    #[test]
    fn repeated_drift_is_repaired_each_time_and_reported_more_rarely() {
        let directory = tempfile::tempdir().unwrap();
        for sysctl in NEEDED {
            let path = directory.path().join(sysctl.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, sysctl.value.to_string()).unwrap();
        }
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut reported) = EventRecorder::new(Arc::clone(&metrics));
        let mut upkeep = Upkeep::new(directory.path(), Arc::clone(&metrics), notices);
        for _ in 0..9 {
            fs::write(directory.path().join("net/ipv4/ip_forward"), "0").unwrap();
            upkeep.check();
            assert_eq!(sysctl::read(&directory, "net/ipv4/ip_forward").unwrap(), "1");
            upkeep.check();
        }
        let text = metrics.encode().unwrap();
        let line =
            "kube_ipvs_setting_drift_total{result=\"put_right\",setting=\"net.ipv4.ip_forward\"} 9";
        assert!(text.lines().any(|it| it == line), "{text}");
        let reported: Vec<_> = std::iter::from_fn(|| reported.try_recv()).collect();
        assert_eq!(reported.len(), 2, "at the fourth time and the eighth: {reported:?}");
        assert_eq!(
            (&reported[0].about, reported[0].reason),
            (&InvolvedObject::Node, EventReason::SettingDrift)
        );
        assert!(reported[0].message.contains("net.ipv4.ip_forward 0 -> 1"), "{reported:?}");

        // A missing setting cannot be repaired.
        fs::remove_file(directory.path().join("net/ipv4/vs/conntrack")).unwrap();
        upkeep.check();
        let refused = "result=\"refused\",setting=\"net.ipv4.vs.conntrack\"} 1";
        assert!(metrics.encode().unwrap().contains(refused));
    }

    #[test]
    fn a_firewall_is_reported_when_it_changes() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut reported) = EventRecorder::new(Arc::clone(&metrics));
        let mut upkeep = Upkeep::new("/nowhere", metrics, notices);
        for found in [None, Some("a"), Some("a"), Some("b"), None, None, Some("b")] {
            upkeep.report_firewall(found.map(str::to_owned));
        }
        let reported: Vec<_> = std::iter::from_fn(|| reported.try_recv()).collect();
        assert!(
            reported.iter().all(|notice| notice.reason == EventReason::FirewallDrops),
            "{reported:?}"
        );
        let messages: Vec<_> = reported.iter().map(|notice| notice.message.as_str()).collect();
        assert_eq!(messages, ["a", "b", "b"]);
    }
}
