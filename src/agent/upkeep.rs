//! Keeps kernel settings as services need them, while others change them, and tells of firewalls that
//! stand in the way.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_ipvs_core::desired::NodeContext;
use kube_ipvs_core::model::Family;
use tracing::{debug, info, warn};

use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use super::metrics::Metrics;
use crate::kernel::firewall;
use crate::kernel::sysctl::{Sysctl, Sysctls};

/// Time from one look to the next.
const AGAIN: Duration = Duration::from_secs(25);
/// How often a setting has to be found wrong until it is told by an Event: somebody goes on.
const LASTING: u32 = 4;

/// Reads the kernel settings again, and puts right those that are wrong.
pub(super) struct Upkeep {
    sysctls: Sysctls,
    metrics: Arc<Metrics>,
    notices: EventRecorder,
    looked: Option<Instant>,
    /// How often each setting, by its path, was found wrong.
    found_wrong: BTreeMap<&'static str, u32>,
    /// Whether others' chains are to be read.
    is_firewall_due: bool,
    /// What was last told of them.
    told_of_firewall: Option<String>,
}

impl Upkeep {
    pub(super) fn new(sysctls: Sysctls, metrics: Arc<Metrics>, notices: EventRecorder) -> Self {
        Self {
            sysctls,
            metrics,
            notices,
            looked: None,
            found_wrong: BTreeMap::new(),
            is_firewall_due: false,
            told_of_firewall: None,
        }
    }

    /// To be called with each part of an audit: looks once a while.
    pub(super) fn look_again(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() > AGAIN) {
            self.look();
        }
    }

    /// To be called with each audit.
    pub(super) fn look(&mut self) {
        self.looked = Some(Instant::now());
        self.is_firewall_due = true;
        for report in self.sysctls.apply(Sysctl::needed(&Family::BOTH)) {
            let sysctl = report.sysctl;
            if report.is_set() {
                self.metrics.setting_put_right(&sysctl.name());
                let why = sysctl.why;
                self.found(
                    sysctl,
                    &format!("another program has changed a setting: {report}, or {why}"),
                );
            } else {
                self.metrics.setting_refused(&sysctl.name());
                self.found(sysctl, &report.to_string());
            }
        }
    }

    /// To be called once the surroundings are up to date: reads others' chains if settings have been
    /// read since.
    pub(super) fn look_at_firewall(&mut self, around: &NodeContext) {
        if !mem::take(&mut self.is_firewall_due) {
            return;
        }
        match firewall::report(&around.service_ranges, &around.settings.carry) {
            Ok(report) => self.tell_of_firewall(report.map(|report| {
                format!(
                    "a firewall is in the way of Services: {}; unless another rule of it lets them in, \
                     add what `kube-ipvs doctor` says: {}",
                    report.found,
                    report.mend.join("; ")
                )
            })),
            Err(error) => debug!("the chains of others cannot be read: {error}"),
        }
    }

    /// Tells it if it is news.
    fn tell_of_firewall(&mut self, message: Option<String>) {
        if self.told_of_firewall == message {
            return;
        }
        self.told_of_firewall.clone_from(&message);
        match message {
            Some(message) => {
                let reason = EventReason::FirewallDrops;
                self.notices.tell(ReportedEvent { about: InvolvedObject::Node, reason, message });
            }
            None => info!("no firewall is in the way of Services any more"),
        }
    }

    /// Tells it once, and then ever more rarely.
    fn found(&mut self, sysctl: Sysctl, what: &str) {
        let times = self.found_wrong.entry(sysctl.path).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        if times >= LASTING && times.is_power_of_two() {
            let message = format!("{what}; found wrong {times} times");
            let reason = EventReason::SettingDrift;
            self.notices.tell(ReportedEvent { about: InvolvedObject::Node, reason, message });
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
    fn what_others_go_on_changing_is_put_right_each_time_and_told_ever_more_rarely() {
        let directory = tempfile::tempdir().unwrap();
        for sysctl in NEEDED {
            let path = directory.path().join(sysctl.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, sysctl.value().to_string()).unwrap();
        }
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut told) = EventRecorder::new(Arc::clone(&metrics));
        let sysctls = Sysctls::at(directory.path());
        let mut upkeep = Upkeep::new(sysctls.clone(), Arc::clone(&metrics), notices);
        for _ in 0..9 {
            fs::write(directory.path().join("net/ipv4/ip_forward"), "0").unwrap();
            upkeep.look();
            assert_eq!(sysctls.read("net/ipv4/ip_forward").unwrap(), "1");
            upkeep.look();
        }
        let text = metrics.encode().unwrap();
        let line =
            "kube_ipvs_setting_drift_total{result=\"put_right\",setting=\"net.ipv4.ip_forward\"} 9";
        assert!(text.lines().any(|it| it == line), "{text}");
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv()).collect();
        assert_eq!(told.len(), 2, "at the fourth time and the eighth: {told:?}");
        assert_eq!(
            (&told[0].about, told[0].reason),
            (&InvolvedObject::Node, EventReason::SettingDrift)
        );
        assert!(told[0].message.contains("net.ipv4.ip_forward 0 -> 1"), "{told:?}");

        // What is not there any more cannot be put right.
        fs::remove_file(directory.path().join("net/ipv4/vs/conntrack")).unwrap();
        upkeep.look();
        let refused = "result=\"refused\",setting=\"net.ipv4.vs.conntrack\"} 1";
        assert!(metrics.encode().unwrap().contains(refused));
    }

    #[test]
    fn a_firewall_is_told_when_it_changes() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut told) = EventRecorder::new(Arc::clone(&metrics));
        let mut upkeep = Upkeep::new(Sysctls::at("/nowhere"), metrics, notices);
        for found in [None, Some("a"), Some("a"), Some("b"), None, None, Some("b")] {
            upkeep.tell_of_firewall(found.map(str::to_owned));
        }
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv()).collect();
        assert!(told.iter().all(|notice| notice.reason == EventReason::FirewallDrops), "{told:?}");
        let messages: Vec<_> = told.iter().map(|notice| notice.message.as_str()).collect();
        assert_eq!(messages, ["a", "b", "b"]);
    }
}
