//! Removes the leftovers of kube-proxy once the kernel is in the desired state.

use kube_ipvs_core::plan::Observed;
use netlink_ipvs::KernelError;
use tracing::{error, info, warn};

use crate::kernel::Kernel;
use crate::migrate;

/// Removes the leftovers of kube-proxy once, if configured: a kube-proxy that still runs would
/// recreate them.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    enabled: bool,
    /// Whether the engine knows what kube-proxy claims, and so drains it.
    claims_known: bool,
    done: bool,
}

impl Takeover {
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// Reads the kernel state, including kube-proxy's claims if its leftovers will be removed.
    pub(super) fn observe(&mut self, kernel: &mut Kernel) -> Result<Observed, KernelError> {
        let mut observed = kernel.observe()?;
        if self.enabled && !self.done {
            match migrate::claims() {
                Ok(claims) => observed.claims = claims,
                Err(error) => {
                    warn!("cannot read the virtual servers that kube-proxy claims: {error}")
                }
            }
            self.claims_known = true;
        }
        Ok(observed)
    }

    /// Removes the leftovers. The caller ensures that the kernel is in the desired state without
    /// failures.
    pub(super) fn settled(&mut self, kernel: &mut Kernel) {
        if !self.enabled || !self.claims_known || self.done {
            return;
        }
        self.done = true;
        let removal = match migrate::remove(kernel) {
            Ok(removal) => removal,
            Err(error) => {
                return error!(
                    "cannot read the leftovers of kube-proxy: {error}; run `kube-ipvs cleanup \
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
