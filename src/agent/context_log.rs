//! Reports the addresses that take node ports and the overlaps of service ranges.

use std::mem;
use std::net::IpAddr;

use kube_ipvs_core::desired::{Overlap, overlaps};
use kube_ipvs_core::engine::DesiredState;
use tracing::info;

use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};

/// What was reported last.
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
                notices.report(ReportedEvent {
                    about: InvolvedObject::Node,
                    reason: EventReason::RangeOverlaps,
                    message: overlap.warning(),
                });
            }
        }
        self.overlaps = overlaps;
    }
}
