//! Notices of operations that the kernel keeps refusing.

use kube_ipvs_core::engine::Trouble;
use kube_ipvs_core::plan::FailureKind;

use super::{About, Notice, Reason};

/// Failures in a row from which on an operation does not merely fail for a moment.
const LASTING: u32 = 4;

/// The notice of a trouble, if the kernel keeps refusing: others than those who read logs had better know.
#[must_use]
pub fn of_trouble(about: About, trouble: &Trouble) -> Option<Notice> {
    let Trouble { setback, attempts } = trouble;
    let is_lasting = setback.kind == FailureKind::Refused && *attempts >= LASTING;
    is_lasting.then(|| Notice {
        about,
        reason: Reason::KernelRejected,
        message: format!(
            "the kernel refuses `{}`: {}; tried {attempts} times, will be tried again",
            setback.attempt, setback.message
        ),
    })
}
