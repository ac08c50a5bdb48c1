//! The log line about drift: what another program has changed, and which one as far as the kernel says.

use std::collections::BTreeSet;

use kube_ipvs_core::plan::Operation;
use tracing::warn;

use crate::kernel::drift::DriftNotice;

/// The number of operations that are named.
const NAMED: usize = 5;

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
