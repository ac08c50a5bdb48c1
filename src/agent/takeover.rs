//! Removes what kube-proxy has left, once everything of ours is in the kernel.

use kube_ipvs_core::plan::Observed;
use netlink_ipvs::KernelError;
use tracing::{error, info, warn};

use crate::kernel::{Kernel, kube_proxy};

/// Removes what kube-proxy has left, if that is wanted, and once: one that runs beside the agent
/// would make everything again.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    wanted: bool,
    /// Whether the engine has been told what kube-proxy claims, and so drains it.
    told: bool,
    done: bool,
}

impl Takeover {
    /// Removes it if that is `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Reads everything that may be ours: with what kube-proxy claims, if it is to be removed.
    pub(super) fn observe(&mut self, kernel: &mut Kernel) -> Result<Observed, KernelError> {
        let mut observed = kernel.observe()?;
        if self.wanted && !self.done {
            match kube_proxy::claims() {
                Ok(claims) => observed.claims = claims,
                Err(error) => warn!("cannot see what kube-proxy claims of IPVS: {error}"),
            }
            self.told = true;
        }
        Ok(observed)
    }

    /// To be called when everything of ours is in the kernel and nothing failed.
    pub(super) fn settled(&mut self, kernel: &mut Kernel) {
        if !self.wanted || !self.told || self.done {
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
        for line in &removal.done {
            info!("kube-proxy's: {line}");
        }
        for failure in &removal.failures {
            warn!("kube-proxy's: {failure}");
        }
        for advice in &removal.by_hand {
            warn!("{advice}");
        }
        info!(
            removed = removal.done.len(),
            failures = removal.failures.len(),
            "kube-proxy's leftovers are removed"
        );
    }
}
