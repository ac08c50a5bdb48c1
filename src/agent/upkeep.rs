//! Keeps kernel settings as Services need them.

use std::collections::BTreeMap;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Family;
use tracing::warn;

use super::events::{EventReason, EventRecorder};
use super::metrics::Metrics;
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
    is_checked: bool,
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
            is_checked: false,
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
        self.is_checked = true;
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

    /// Returns whether the settings have been read since the last call.
    pub(super) fn take_checked(&mut self) -> bool {
        mem::take(&mut self.is_checked)
    }

    /// Reports a drift the first time, and then each time the number has doubled.
    fn report_drift(&mut self, sysctl: Sysctl, what: &str) {
        let times = self.drifts.entry(sysctl.path).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        if times >= LASTING && times.is_power_of_two() {
            let message = format!("{what}; found {times} times");
            self.notices.report_node(EventReason::SettingDrift, message);
        } else if times.is_power_of_two() {
            warn!("{what}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::super::events::InvolvedObject;
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
}
