//! What has changed and is still to be looked at.

use rustc_hash::FxHashMap;

use crate::model::ServiceKey;

/// What has changed and is still to be looked at.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Services that changed or whose endpoints did: whether it was the Service itself, whose
    /// front ends may be others now.
    pub services: FxHashMap<ServiceKey, bool>,
    /// The node, its addresses, a service range or the API server's address: any Service may be
    /// touched.
    pub surroundings: bool,
}

impl Dirty {
    /// Notes that a Service itself has changed.
    pub(super) fn touch(&mut self, service: ServiceKey) {
        self.services.insert(service, true);
    }

    /// Notes that the endpoints of a Service have changed.
    pub(super) fn touch_endpoints(&mut self, service: ServiceKey) {
        self.services.entry(service).or_default();
    }

    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.surroundings
    }
}
