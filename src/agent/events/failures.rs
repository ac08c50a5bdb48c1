//! EventRecorder of operations that the kernel keeps refusing.

use kube_ipvs_core::engine::RepeatedError;
use kube_ipvs_core::plan::FailureKind;

use super::{EventReason, InvolvedObject, ReportedEvent};

/// Failures in a row from which on an operation does not merely fail for a moment.
const LASTING: u32 = 4;

/// The notice of a trouble, if the kernel keeps refusing: others than those who read logs had better know.
#[must_use]
pub fn of_trouble(about: InvolvedObject, trouble: &RepeatedError) -> Option<ReportedEvent> {
    let RepeatedError { error, attempts } = trouble;
    let is_lasting = error.kind == FailureKind::Refused && *attempts >= LASTING;
    is_lasting.then(|| ReportedEvent {
        about,
        reason: EventReason::KernelRejected,
        message: format!(
            "the kernel refuses `{}`: {}; tried {attempts} times, will be tried again",
            error.attempt, error.message
        ),
    })
}
