//! Events about operations that the kernel keeps rejecting.

use kube_ipvs_core::engine::SyncError;
use kube_ipvs_core::model::EndpointName;
use kube_ipvs_core::plan::FailureKind;

use super::{EventReason, InvolvedObject, ReportedEvent};

/// The number of consecutive failures after which a failure counts as lasting.
const LASTING: u32 = 4;

/// Returns the event of a lasting failure: such failures concern more than the readers of the log.
#[must_use]
pub fn of_failure(
    about: InvolvedObject,
    error: &SyncError,
    name: &EndpointName,
) -> Option<ReportedEvent> {
    let SyncError { failure, attempts, .. } = error;
    let is_lasting = failure.kind == FailureKind::Refused && *attempts >= LASTING;
    is_lasting.then(|| ReportedEvent {
        about,
        reason: EventReason::KernelRejected,
        message: format!(
            "the kernel rejects `{}`{name}: {failure}; tried {attempts} times, will be retried",
            error.command()
        ),
    })
}
