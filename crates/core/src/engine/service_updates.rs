//! Changes of Services that need no kernel operation: health checks and refusals.

use std::collections::BTreeMap;

use super::Replacement;
use crate::model::{HealthCheck, Refusal, ServiceKey};
use crate::plan::Ejection;
use crate::state::Trigger;

/// Changes of Services that need no kernel operation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceUpdates {
    /// The number of changes of Services' desired state.
    pub updates: usize,
    /// Changed health checks; `None` for a removed one.
    pub health_checks: BTreeMap<ServiceKey, Option<HealthCheck>>,
    /// New refusals of requested front ends.
    pub refusals: BTreeMap<ServiceKey, Vec<Refusal>>,
    /// New reasons why options of Services have no effect.
    pub ignored_options: BTreeMap<ServiceKey, Vec<String>>,
    /// Endpoints that do not answer, and what became of them.
    pub ejections: Vec<Ejection>,
    /// The endpoint changes that have reached the kernel.
    pub programmed: Vec<Trigger>,
}

impl ServiceUpdates {
    /// Returns whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Records the changes of a replacement. The cost is proportional to the differences.
    pub(super) fn note(&mut self, replacement: &Replacement) {
        let Replacement { service, old, new } = replacement;
        self.updates += 1;
        if old.health_check != new.health_check {
            self.health_checks.insert(service.clone(), new.health_check);
        }
        let ignored = new.ignored_options.iter();
        let ignored: Vec<_> =
            ignored.filter(|it| !old.ignored_options.contains(it)).cloned().collect();
        if !ignored.is_empty() {
            self.ignored_options.insert(service.clone(), ignored);
        }
        if old.refusals != new.refusals {
            let is_new = |refusal: &&Refusal| old.refusal(&refusal.address) != Some(*refusal);
            let refusals: Vec<_> = new.refusals.iter().filter(is_new).cloned().collect();
            if !refusals.is_empty() {
                self.refusals.insert(service.clone(), refusals);
            }
        }
    }
}
