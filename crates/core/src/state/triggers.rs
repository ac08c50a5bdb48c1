//! Trigger times of endpoint changes that are not in the kernel yet.

use rustc_hash::FxHashMap;

use crate::model::{Family, ServiceKey};

/// Limits the changes of one Service: a Service that the kernel rejects may continue to change.
const MOST_KEPT: usize = 100;

/// A change of endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trigger {
    pub family: Family,
    /// In Unix milliseconds.
    pub at: i64,
}

/// Trigger times of endpoint changes that are not in the kernel yet.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    by_service: FxHashMap<ServiceKey, Vec<Trigger>>,
}

impl Triggers {
    pub(super) fn add(&mut self, service: &ServiceKey, family: Family, at: Option<i64>) {
        let Some(at) = at else { return };
        let all = self.by_service.entry(service.clone()).or_default();
        if all.len() < MOST_KEPT {
            all.push(Trigger { family, at });
        }
    }

    /// Returns and removes the changes of all Services that no longer wait.
    pub(super) fn take(&mut self, waits: impl Fn(&ServiceKey) -> bool) -> Vec<Trigger> {
        let ended = self.by_service.extract_if(|service, _| !waits(service));
        ended.flat_map(|(_, triggers)| triggers).collect()
    }
}
