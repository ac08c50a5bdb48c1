//! Runs the checks of `doctor` within the agent: at the start and with each audit, on a thread of their
//! own, so that no sync waits for them.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::{debug, error, info};

use super::events::{EventReason, EventRecorder};
use super::metrics::Metrics;
use crate::doctor::{self, CheckResult, CheckVerdict, Finding, Subject};

/// A request for all checks.
struct Request {
    subject: Subject,
    /// Before the first sync, the kernel may load what is missing at its first use: a warning says
    /// nothing yet.
    is_synced: bool,
}

/// The checks of the running agent. The thread ends with it.
pub(super) struct Checkup {
    requests: Sender<Request>,
    failing: Arc<Mutex<Vec<CheckResult>>>,
}

impl Checkup {
    pub(super) fn start(metrics: Arc<Metrics>, notices: EventRecorder) -> Self {
        let (requests, received) = mpsc::channel();
        let failing = Arc::default();
        let mut examiner =
            Examiner { metrics, notices, failing: Arc::clone(&failing), reported: BTreeMap::new() };
        let run = move || examiner.run(&received);
        if let Err(error) = thread::Builder::new().name("checks".to_owned()).spawn(run) {
            error!("cannot start the thread of the checks: {error}");
        }
        Self { requests, failing }
    }

    /// Has the checks run soon.
    pub(super) fn request(&self, subject: Subject, is_synced: bool) {
        let _ = self.requests.send(Request { subject, is_synced });
    }

    /// Returns the checks whose last verdict is not `ok`.
    pub(super) fn failing(&self) -> Vec<CheckResult> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Examiner {
    metrics: Arc<Metrics>,
    notices: EventRecorder,
    failing: Arc<Mutex<Vec<CheckResult>>>,
    /// What was reported last, by check.
    reported: BTreeMap<String, Finding>,
}

impl Examiner {
    fn run(&mut self, requests: &Receiver<Request>) {
        while let Ok(mut request) = requests.recv() {
            // Of requests that came during a run, the last counts.
            while let Ok(next) = requests.try_recv() {
                request = next;
            }
            let start = Instant::now();
            let report = doctor::run_in_agent(&request.subject);
            debug!(took = ?start.elapsed(), "the checks of the node have run");
            self.note(report.checks, request.is_synced);
        }
    }

    /// Records and reports the results.
    fn note(&mut self, mut results: Vec<CheckResult>, is_synced: bool) {
        for CheckResult { check, finding } in &results {
            self.metrics.checked(check, finding.verdict);
        }
        let mut changed = Vec::new();
        for result in &results {
            if result.finding.verdict == CheckVerdict::Warn && !is_synced {
                continue;
            }
            if self.changes(result) {
                changed.push(result);
            }
        }
        self.report(&changed);
        results.retain(|result| result.finding.verdict != CheckVerdict::Ok);
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = results;
    }

    /// Records a result. Returns whether it is a problem that was not reported yet: the verdict is
    /// another one, or what must be done. Numbers in a finding change all the time.
    fn changes(&mut self, result: &CheckResult) -> bool {
        let CheckResult { check, finding } = result;
        let before = self.reported.insert(check.clone(), finding.clone());
        let is_same =
            |before: &Finding| before.verdict == finding.verdict && before.mend == finding.mend;
        if finding.verdict != CheckVerdict::Ok {
            return !before.as_ref().is_some_and(is_same);
        }
        if before.is_some_and(|before| before.verdict != CheckVerdict::Ok) {
            info!(check, "the check is ok again: {}", finding.found);
        }
        false
    }

    /// Reports changed verdicts: those of one run in one Event, as one object and reason has one in a
    /// while.
    fn report(&self, changed: &[&CheckResult]) {
        let mut others = Vec::new();
        for CheckResult { check, finding: Finding { verdict, found, mend } } in changed {
            let mend = mend.join("; ");
            match &**check {
                doctor::FIREWALL => self.notices.report_node(
                    EventReason::FirewallDrops,
                    format!(
                        "a firewall is in the way of Services: {found}; unless another rule of it \
                         lets them in, add what `kube-ipvs doctor` says: {mend}"
                    ),
                ),
                // The engine reports each overlap before anything is written.
                doctor::SERVICE_RANGES => {}
                _ => others.push(format!("{check} ({verdict}): {found}: {mend}")),
            }
        }
        if !others.is_empty() {
            self.notices.report_node(EventReason::CheckFailed, others.join(". "));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn result(check: &str, verdict: CheckVerdict, found: &str, mend: &str) -> CheckResult {
        let mend = (verdict != CheckVerdict::Ok).then(|| mend.to_owned()).into_iter().collect();
        let finding = Finding { verdict, found: found.to_owned(), mend };
        CheckResult { check: check.to_owned(), finding }
    }

    #[test]
    fn a_changed_verdict_is_reported_once() {
        use CheckVerdict::{Fail, Ok, Warn};
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, mut reported) = EventRecorder::new(Arc::clone(&metrics));
        let mut examiner = Examiner {
            metrics: Arc::clone(&metrics),
            notices,
            failing: Arc::default(),
            reported: BTreeMap::new(),
        };
        let mut runs = |results: &[(&str, CheckVerdict, &str)], is_synced| -> Vec<String> {
            let results = results.iter();
            let results =
                results.map(|(check, verdict, found)| result(check, *verdict, found, "x"));
            examiner.note(results.collect(), is_synced);
            let events = std::iter::from_fn(|| reported.try_recv());
            events.map(|it| format!("{} {}", it.reason.name(), it.message)).collect()
        };
        let both = [("conntrack", Warn, "75 of 100"), ("ipvs", Fail, "none")];
        assert_eq!(runs(&both, false), ["CheckFailed ipvs (fail): none: x"]);
        assert_eq!(runs(&both, true), ["CheckFailed conntrack (warn): 75 of 100: x"]);
        assert_eq!(runs(&[("conntrack", Warn, "76 of 100"), both[1]], true), [""; 0]);
        let line = "kube_ipvs_check_status{check=\"ipvs\",status=\"fail\"} 1";
        assert!(metrics.encode().unwrap().contains(line));
        let mended = [("conntrack", Fail, "99 of 100"), ("ipvs", Ok, "here")];
        assert_eq!(runs(&mended, true), ["CheckFailed conntrack (fail): 99 of 100: x"]);
        let line = "kube_ipvs_check_status{check=\"ipvs\",status=\"fail\"} 0";
        assert!(metrics.encode().unwrap().contains(line));
        let firewall = [("firewall", Fail, "chain a")];
        assert!(runs(&firewall, true)[0].starts_with("FirewallDrops a firewall is in the way"));
        assert_eq!(runs(&firewall, true), [""; 0]);
        let failing = examiner.failing.lock().unwrap();
        assert_eq!(failing.iter().map(|it| &*it.check).collect::<Vec<_>>(), ["firewall"]);
    }
}
