//! Removes the leftovers of kube-proxy once the kernel is in the desired state.

use kube_ipvs_core::plan::Observed;
use netlink_ipvs::KernelError;
use tracing::{error, info, warn};

use crate::kernel::Kernel;
use crate::migrate;

/// Whether the leftovers of kube-proxy will be removed. That happens at most once: a kube-proxy that
/// still runs would recreate them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Takeover {
    /// Not configured, or done.
    Off,
    /// The engine does not know yet what kube-proxy claims.
    Pending,
    /// The engine knows what kube-proxy claims, and so drains it.
    Drains,
}

impl Takeover {
    pub(super) fn new(enabled: bool) -> Self {
        if enabled { Self::Pending } else { Self::Off }
    }

    /// Reads the kernel state, including kube-proxy's claims if its leftovers will be removed.
    pub(super) fn observe(&mut self, kernel: &mut Kernel) -> Result<Observed, KernelError> {
        let mut observed = kernel.observe()?;
        if *self != Self::Off {
            match migrate::claims() {
                Ok(claims) => observed.claims = claims,
                Err(error) => {
                    warn!("cannot read the virtual servers that kube-proxy claims: {error}")
                }
            }
            *self = Self::Drains;
        }
        Ok(observed)
    }

    /// Removes the leftovers. The caller ensures that the kernel is in the desired state without
    /// failures.
    pub(super) fn settled(&mut self, kernel: &mut Kernel) {
        if *self != Self::Drains {
            return;
        }
        *self = Self::Off;
        let removal = match migrate::remove(kernel, false) {
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
