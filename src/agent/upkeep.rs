//! Keeps kernel settings as services need them, while others change them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::metrics::Metrics;
use super::notices::{About, Notice, Notices, Reason};
use crate::kernel::sysctl::{Ensured, Setting, Sysctls};
use crate::model::Family;

/// Time from one look to the next.
const AGAIN: Duration = Duration::from_secs(25);
/// How often a setting has to be found wrong until it is told by an Event: somebody goes on.
const LASTING: u32 = 4;

/// Reads the kernel settings again, and puts right those that are wrong.
pub(super) struct Upkeep {
    sysctls: Sysctls,
    metrics: Arc<Metrics>,
    notices: Notices,
    looked: Option<Instant>,
    /// How often each setting, by its path, was found wrong.
    found_wrong: BTreeMap<&'static str, u32>,
}

impl Upkeep {
    pub(super) fn new(sysctls: Sysctls, metrics: Arc<Metrics>, notices: Notices) -> Self {
        Self { sysctls, metrics, notices, looked: None, found_wrong: BTreeMap::new() }
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
        let Ensured { changed, failed } = self.sysctls.ensure(&Family::BOTH);
        for change in changed {
            self.metrics.setting_put_right(&change.setting.name());
            let why = change.setting.why;
            self.found(
                change.setting,
                &format!("somebody else has changed a setting: {change}, or {why}"),
            );
        }
        for error in failed {
            self.metrics.setting_refused(&error.setting().name());
            self.found(error.setting(), &error.to_string());
        }
    }

    /// Tells it once, and then ever more rarely.
    fn found(&mut self, setting: Setting, what: &str) {
        let times = self.found_wrong.entry(setting.path).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        if times >= LASTING && times.is_power_of_two() {
            let message = format!("{what}; found wrong {times} times");
            let reason = Reason::SettingChanged;
            self.notices.tell(Notice { about: About::Node, reason, message });
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
    use crate::kernel::sysctl::SETTINGS;

    #[test]
    fn what_others_go_on_changing_is_put_right_each_time_and_told_ever_more_rarely() {
        let directory = tempfile::tempdir().unwrap();
        for setting in SETTINGS {
            let path = directory.path().join(setting.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, setting.wanted).unwrap();
        }
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut told) = Notices::new(Arc::clone(&metrics));
        let sysctls = Sysctls::at(directory.path());
        let mut upkeep = Upkeep::new(sysctls.clone(), Arc::clone(&metrics), notices);
        for _ in 0..9 {
            fs::write(directory.path().join("net/ipv4/ip_forward"), "0").unwrap();
            upkeep.look();
            assert_eq!(sysctls.read("net/ipv4/ip_forward").unwrap(), "1");
            upkeep.look();
        }
        let text = metrics.encode().unwrap();
        let line = "kube_ipvs_settings_found_wrong_total{result=\"put_right\",setting=\"net.ipv4.ip_forward\"} 9";
        assert!(text.lines().any(|it| it == line), "{text}");
        let told: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(told.len(), 2, "at the fourth time and the eighth: {told:?}");
        assert_eq!((&told[0].about, told[0].reason), (&About::Node, Reason::SettingChanged));
        assert!(told[0].message.contains("net.ipv4.ip_forward 0 -> 1"), "{told:?}");

        // What is not there any more cannot be put right.
        fs::remove_file(directory.path().join("net/ipv4/vs/conntrack")).unwrap();
        upkeep.look();
        let refused = "result=\"refused\",setting=\"net.ipv4.vs.conntrack\"} 1";
        assert!(metrics.encode().unwrap().contains(refused));
    }
}
