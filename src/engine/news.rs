//! What changed of the Services that is nothing to the kernel.

use std::collections::BTreeMap;
use std::mem;

use super::Replacement;
use crate::model::{HealthCheck, Refusal, ServiceKey};

/// What changed of the Services that is nothing to the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// Health checks that are others now; `None` where there is none any more.
    pub health_checks: BTreeMap<ServiceKey, Option<HealthCheck>>,
    /// Front ends that Services ask for and are newly refused.
    pub refusals: BTreeMap<ServiceKey, Vec<Refusal>>,
}

impl News {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.health_checks.is_empty() && self.refusals.is_empty()
    }

    /// Notes what of a replacement is news. Costs what differs.
    pub(super) fn note(&mut self, replacement: &Replacement) {
        let Replacement { service, old, new } = replacement;
        if old.health_check != new.health_check {
            self.health_checks.insert(service.clone(), new.health_check);
        }
        if old.refusals != new.refusals {
            let is_new = |refusal: &&Refusal| !old.refusals.contains(refusal);
            let refusals: Vec<_> = new.refusals.iter().filter(is_new).cloned().collect();
            if !refusals.is_empty() {
                self.refusals.insert(service.clone(), refusals);
            }
        }
    }

    pub(super) fn take(&mut self) -> Self {
        mem::take(self)
    }
}
