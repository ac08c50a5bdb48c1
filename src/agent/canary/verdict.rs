//! The verdict about the data path: what the outcomes of the probes add up to, and who is told.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kube_ipvs_core::canary::{CANARY_DEVICE, path};
use kube_ipvs_core::model::Family;
use tracing::info;

use crate::agent::events::{EventReason, EventRecorder};
use crate::doctor::{self, CheckResult};

/// How many probes in a row fail before the data path does. A busy node loses a packet now and then.
const FAILURES: u32 = 3;

/// Where a probe ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::agent) enum ProbeOutcome {
    /// The answer of the endpoint reached the client, with the front end as its source.
    Answered,
    /// The node itself refused the connection: no virtual server took it.
    Refused,
    /// Nothing reached the endpoint.
    RequestLost,
    /// The request reached the endpoint, and its answer did not reach the client.
    AnswerLost,
}

impl ProbeOutcome {
    pub(in crate::agent) const ALL: [Self; 4] =
        [Self::Answered, Self::Refused, Self::RequestLost, Self::AnswerLost];

    /// The value of label `result` of the metric.
    pub(in crate::agent) fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::RequestLost => "request_lost",
            Self::AnswerLost => "answer_lost",
        }
    }

    /// Returns what was seen of a failed probe, and where to look.
    pub(in crate::agent) fn explain(self, family: Family) -> String {
        let way = path(family);
        let (front_end, endpoint) = (way.front_end, way.endpoint);
        match self {
            Self::Answered => format!("{front_end} answers"),
            Self::Refused => format!(
                "the node refuses {front_end}: IPVS has no virtual server there, or it has no real server"
            ),
            Self::RequestLost => format!(
                "packets to {front_end} do not reach the endpoint {endpoint}: a rule or route between \
                 prerouting and postrouting takes them"
            ),
            Self::AnswerLost => format!(
                "packets to {front_end} reach the endpoint {endpoint}, and its answers do not reach the \
                 client {}: a rule at hook forward drops them, or IPVS does not translate them",
                way.client
            ),
        }
    }
}

/// What is known of the data path in one family.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::agent) enum CanaryVerdict {
    /// No probe is done yet, or the canary is off.
    #[default]
    Unknown,
    Well,
    /// The outcome is that of the last probe.
    Failing {
        since: Instant,
        outcome: ProbeOutcome,
    },
    /// The node allows no probe, for this reason.
    Impossible(String),
}

impl CanaryVerdict {
    /// The values of label `status` of the metric.
    pub(in crate::agent) const STATUSES: [&'static str; 3] = ["well", "failing", "impossible"];

    /// Returns one of [`Self::STATUSES`]; `None` before the first verdict.
    pub(in crate::agent) fn status(&self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Well => Some("well"),
            Self::Failing { .. } => Some("failing"),
            Self::Impossible(_) => Some("impossible"),
        }
    }

    pub(in crate::agent) fn failing_since(&self) -> Option<Instant> {
        match self {
            Self::Failing { since, .. } => Some(*since),
            _ => None,
        }
    }
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Adds up the outcomes of one family.
#[derive(Debug, Default)]
pub(super) struct CanaryJudge {
    failures: u32,
    /// The time of the first failure in a row.
    first: Option<Instant>,
}

impl CanaryJudge {
    /// Takes the outcome of a probe that was sent at `sent`. Returns the verdict, or `None` while it
    /// stays open.
    pub(super) fn judge(&mut self, outcome: ProbeOutcome, sent: Instant) -> Option<CanaryVerdict> {
        if outcome == ProbeOutcome::Answered {
            *self = Self::default();
            return Some(CanaryVerdict::Well);
        }
        self.failures = self.failures.saturating_add(1);
        let since = *self.first.get_or_insert(sent);
        (self.failures >= FAILURES).then_some(CanaryVerdict::Failing { since, outcome })
    }
}

/// The present verdict of each family.
#[derive(Debug, Default)]
pub(in crate::agent) struct CanaryBoard(Mutex<[CanaryVerdict; 2]>);

impl CanaryBoard {
    /// Records a verdict, and reports it if it is another one than before.
    pub(super) fn note(&self, family: Family, verdict: CanaryVerdict, notices: &EventRecorder) {
        let mut verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = family.pick_mut(&mut verdicts);
        if *known == verdict {
            return;
        }
        match (&*known, &verdict) {
            (_, CanaryVerdict::Failing { outcome, .. }) => notices.report_node(
                EventReason::CanaryFails,
                format!(
                    "connections of pods to {family} Services fail on this node: {}",
                    outcome.explain(family)
                ),
            ),
            (CanaryVerdict::Failing { .. }, CanaryVerdict::Well) => {
                info!(%family, "the canary is answered again");
            }
            (_, CanaryVerdict::Well) => info!(%family, "the canary is answered"),
            // The log says once for both families why.
            (_, CanaryVerdict::Impossible(_) | CanaryVerdict::Unknown) => {}
        }
        *known = verdict;
    }

    /// Returns what `doctor` says, unless all is well.
    pub(in crate::agent) fn complaint(&self) -> Option<CheckResult> {
        let verdicts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = || Family::BOTH.into_iter().map(|family| (family, family.pick(&verdicts)));
        let failing = each().filter_map(|(family, verdict)| match verdict {
            CanaryVerdict::Failing { outcome, .. } => Some(outcome.explain(family)),
            _ => None,
        });
        let impossible = each().filter_map(|(_, verdict)| match verdict {
            CanaryVerdict::Impossible(reason) => Some(reason.clone()),
            _ => None,
        });
        let mut impossible: Vec<_> = impossible.collect();
        impossible.dedup();
        doctor::complaint_of_canary(&failing.collect::<Vec<_>>(), &impossible)
    }
}

/// Why a device of the agent's own is not possible, and what is missing.
pub(super) fn no_device(error: &dyn fmt::Display) -> String {
    format!(
        "the device {CANARY_DEVICE} cannot be created: {error}; it needs CAP_NET_ADMIN, the kernel \
         module tun, and /dev/net/tun in the container"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ProbeOutcome::{AnswerLost, Answered, Refused, RequestLost};
    use super::*;

    #[test]
    fn a_few_failures_in_a_row_fail_and_one_answer_recovers() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut judge = CanaryJudge::default();
        let failing = |since, outcome| Some(CanaryVerdict::Failing { since: at(since), outcome });
        for (seconds, outcome, expected) in [
            (0, RequestLost, None),
            (5, RequestLost, None),
            (10, Answered, Some(CanaryVerdict::Well)),
            (15, AnswerLost, None),
            (20, RequestLost, None),
            (25, Refused, failing(15, Refused)),
            (30, AnswerLost, failing(15, AnswerLost)),
            (35, Answered, Some(CanaryVerdict::Well)),
            (40, RequestLost, None),
        ] {
            assert_eq!(judge.judge(outcome, at(seconds)), expected, "at {seconds} s");
        }
    }

    #[test]
    fn an_explanation_says_where_the_packet_was_lost() {
        for (outcome, part) in [
            (Refused, "the node refuses 169.254.75.10:80/tcp"),
            (RequestLost, "do not reach the endpoint 169.254.75.2:8080"),
            (AnswerLost, "do not reach the client 169.254.75.1: a rule at hook forward"),
        ] {
            let text = outcome.explain(Family::V4);
            assert!(text.contains(part), "{text}");
        }
    }
}
