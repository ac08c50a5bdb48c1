//! What has changed and is still to be looked at.

use std::collections::BTreeSet;

use crate::model::ServiceKey;

/// What has changed and is still to be looked at.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Services that changed themselves or whose endpoints did.
    pub services: BTreeSet<ServiceKey>,
    /// The node, its addresses, a service range or the API server's address: any Service may be
    /// touched.
    pub surroundings: bool,
}

impl Dirty {
    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.surroundings
    }
}
