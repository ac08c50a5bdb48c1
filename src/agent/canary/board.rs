//! The present verdicts, for those that ask.

use std::sync::{Mutex, PoisonError};

use kube_ipvs_core::model::Family;
use tracing::info;

use super::verdict::CanaryVerdict;
use crate::agent::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use crate::doctor::{self, CheckResult};

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
            (_, CanaryVerdict::Failing { outcome, .. }) => notices.report(ReportedEvent {
                about: InvolvedObject::Node,
                reason: EventReason::CanaryFails,
                message: format!(
                    "connections of pods to {family} Services fail on this node: {}",
                    outcome.explain(family)
                ),
            }),
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
