//! Removes what kube-proxy has left, once everything of ours is in the kernel.

use tracing::{error, info, warn};

use crate::kernel::{Kernel, kube_proxy};

/// Removes what kube-proxy has left, if that is wanted, and once: one that runs beside the agent
/// would make everything again.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    wanted: bool,
    done: bool,
}

impl Takeover {
    /// What the configuration says.
    pub(super) fn want(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// To be called when everything of ours is in the kernel and nothing failed.
    pub(super) fn settled(&mut self, kernel: &mut Kernel) {
        if !self.wanted || self.done {
            return;
        }
        self.done = true;
        let removal = match kube_proxy::remove(kernel) {
            Ok(removal) => removal,
            Err(error) => {
                return error!(
                    "cannot see what kube-proxy has left: {error}; run `kube-ipvs cleanup \
                     --kube-proxy`"
                );
            }
        };
        for line in &removal.removed {
            info!("kube-proxy's: {line}");
        }
        for failure in &removal.failures {
            warn!("kube-proxy's: {failure}");
        }
        for advice in &removal.by_hand {
            warn!("{advice}");
        }
        info!(
            removed = removal.removed.len(),
            failures = removal.failures.len(),
            "kube-proxy's leftovers are removed"
        );
    }
}
