//! When changes of endpoints happened that are not in the kernel yet.

use rustc_hash::FxHashMap;

use crate::model::{Family, ServiceKey};

/// Changes of one Service that are kept. One that the kernel refuses may go on changing.
const MOST_KEPT: usize = 100;

/// A change of endpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// The endpoints' family.
    pub family: Family,
    /// When it happened, in Unix milliseconds.
    pub at: i64,
}

/// When changes of endpoints happened that are not in the kernel yet.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    by_service: FxHashMap<ServiceKey, Vec<Trigger>>,
}

impl Triggers {
    /// Adds a change of a Service's endpoints, if it is known when it happened.
    pub(super) fn add(&mut self, service: &ServiceKey, family: Family, at: Option<i64>) {
        let Some(at) = at else { return };
        let all = self.by_service.entry(service.clone()).or_default();
        if all.len() < MOST_KEPT {
            all.push(Trigger { family, at });
        }
    }

    /// Those of all Services but the ones that are still waited for.
    pub(super) fn take(&mut self, waits: impl Fn(&ServiceKey) -> bool) -> Vec<Trigger> {
        let ended = self.by_service.extract_if(|service, _| !waits(service));
        ended.flat_map(|(_, triggers)| triggers).collect()
    }
}
