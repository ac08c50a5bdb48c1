//! The log lines of the engine's thread: what runs here, what the first sync waits for, the addresses of
//! the node, applied plans and drift.

use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kube_ipvs_core::desired::{Overlap, overlaps};
use kube_ipvs_core::engine::{DesiredState, Engine};
use kube_ipvs_core::plan::Operation;
use tracing::{info, warn};

use super::events::{EventReason, EventRecorder};
use crate::build::{COMMIT, VERSION};
use crate::config::{Config, SharedFlags, SourceConfig};
use crate::kernel::drift::DriftNotice;
use crate::kernel::release;
use crate::source::kubernetes::server_urls;

/// How long the first sync may take without a line.
const FIRST_LINE: Duration = Duration::from_secs(5);
/// The time between lines.
const AGAIN: Duration = Duration::from_secs(30);
/// The least time between two lines about applied plans. Changes may come many times a second.
const QUIET: Duration = Duration::from_secs(60);
/// The number of operations that are named.
const NAMED: usize = 5;

/// Logs what starts here, and by which configuration.
pub(super) async fn announce(config: &Config, flags: &SharedFlags) {
    let source = match &config.source {
        SourceConfig::Manifests(directory) => directory.display().to_string(),
        SourceConfig::Kubernetes(access) => {
            // The error ends the agent when it connects.
            server_urls(access).await.unwrap_or_else(|error| error.to_string())
        }
    };
    info!(
        version = VERSION,
        commit = COMMIT,
        node = %config.settings.node_name,
        kernel = release(),
        source,
        config = flags.config.as_ref().map_or("flags".to_owned(), |it| it.display().to_string()),
        "kube-ipvs starts"
    );
}

/// Logs what the first sync waits for, as long as it waits.
#[derive(Debug)]
pub(super) struct StartLog {
    source: String,
    next: Option<Instant>,
}

impl StartLog {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let source = match &config.source {
            SourceConfig::Manifests(directory) => directory.display().to_string(),
            SourceConfig::Kubernetes(_) => "the API server".to_owned(),
        };
        Self { source, next: Some(now + FIRST_LINE) }
    }

    /// Returns when [`StartLog::log`] has a line.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Called once the first sync is done.
    pub(super) fn end(&mut self) {
        self.next = None;
    }

    /// Writes the line that is due.
    pub(super) fn log(&mut self, engine: &Engine, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.next = Some(now + AGAIN);
        match self.cause(engine) {
            Some(cause) => {
                info!("waiting for {cause}; Services keep the state from before the start")
            }
            None => {
                info!(failures = engine.failures(), "waiting for the kernel to take the first sync")
            }
        }
    }

    /// Returns the kinds that the source has not listed.
    fn cause(&self, engine: &Engine) -> Option<String> {
        let kinds: Vec<_> = engine.state().unlisted().collect();
        (!kinds.is_empty())
            .then(|| format!("{}: no list of {} objects yet", self.source, kinds.join(", ")))
    }
}

/// Reports the addresses that serve node ports, and the overlaps of service ranges. It has what was
/// reported last.
#[derive(Debug, Default)]
pub(super) struct ContextLog {
    changes: u64,
    overlaps: Vec<Overlap>,
    node_port_ips: Vec<IpAddr>,
}

impl ContextLog {
    /// Called before anything is written.
    pub(super) fn report(&mut self, desired: &DesiredState, notices: &EventRecorder) {
        let changes = desired.context_changes();
        if mem::replace(&mut self.changes, changes) == changes {
            return;
        }
        let context = desired.context();
        if self.node_port_ips != context.node_port_ips {
            self.node_port_ips.clone_from(&context.node_port_ips);
            info!(addresses = ?self.node_port_ips, "addresses that serve node ports");
        }
        let overlaps = overlaps(context);
        for overlap in &overlaps {
            if !self.overlaps.iter().any(|other| other.is_alike(overlap)) {
                notices.report_node(EventReason::RangeOverlaps, overlap.warning());
            }
        }
        self.overlaps = overlaps;
    }
}

/// Counts the applied plans since the last line.
#[derive(Debug, Default)]
pub(super) struct Applied {
    sum: Sum,
    last: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sum {
    pub(super) plans: usize,
    pub(super) operations: usize,
    pub(super) failures: usize,
    pub(super) took: Duration,
}

impl Sum {
    pub(super) fn add(&mut self, operations: usize, failures: usize, took: Duration) {
        self.plans += 1;
        self.operations += operations;
        self.failures += failures;
        self.took += took;
    }
}

impl Applied {
    /// To add to.
    pub(super) fn sum(&mut self) -> &mut Sum {
        &mut self.sum
    }

    /// Returns when [`Applied::next`] has a line, if no plan is added.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.sum.plans > 0).then(|| self.last.map_or(now, |last| last + QUIET))
    }

    /// Returns the counts for a line that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Sum> {
        self.due(now).filter(|at| *at <= now)?;
        self.last = Some(now);
        Some(mem::take(&mut self.sum))
    }
}

/// Logs drift before it is repaired. IPVS reports no changes, so drift there has neither a notice nor a
/// process.
pub(super) fn report_drift(notice: &DriftNotice, repairs: &[Operation]) {
    let join = |texts: &BTreeSet<String>| {
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    let mut repaired: Vec<_> = repairs.iter().take(NAMED).map(ToString::to_string).collect();
    if repairs.len() > NAMED {
        repaired.push(format!("and {} more", repairs.len() - NAMED));
    }
    warn!(
        operations = repairs.len(),
        changes = join(&notice.changes).unwrap_or_else(|| "not reported by the kernel".to_owned()),
        by = join(&notice.writers).unwrap_or_else(|| "unknown".to_owned()),
        repairs = repaired.join("; "),
        "another program has changed the kernel's state: repairing it"
    );
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::{Change, Event, Settings};

    use super::*;

    #[test]
    fn the_kinds_that_are_waited_for_are_named() {
        let mut engine = Engine::new(&Settings::for_node("n1"), None);
        let log = StartLog::new(&Config::default(), Instant::now());
        engine.handle_event(Event::Node(None));
        engine.handle_event(Event::Service(Change::Replace(Vec::new())));
        let cause = log.cause(&engine).unwrap_or_default();
        assert_eq!(cause, "the API server: no list of ServiceCIDR, EndpointSlice objects yet");
        engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
        engine.handle_event(Event::Slice(Change::Replace(Vec::new())));
        assert_eq!(log.cause(&engine), None);
    }

    #[test]
    fn the_first_plan_is_logged_at_once_and_later_ones_as_a_sum() {
        let (mut applied, start) = (Applied::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..=120 {
            applied.sum().add(3, 1, Duration::from_millis(2));
            lines.extend(applied.next(start + Duration::from_secs(second)));
        }
        let sums: Vec<_> = lines.iter().map(|sum| (sum.plans, sum.operations)).collect();
        assert_eq!(sums, [(1, 3), (60, 180), (60, 180)]);
        assert_eq!(applied.due(start), None);
        applied.sum().add(1, 0, Duration::ZERO);
        assert_eq!(applied.due(start), Some(start + Duration::from_secs(180)));
    }
}
