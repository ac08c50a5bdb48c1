//! The changes that are not processed yet.

use rustc_hash::FxHashSet;

use super::ServiceEntry;
use crate::model::{ServiceKey, VirtualAddress};

/// The changes that are not processed yet.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Services that changed themselves, so that their front ends may differ.
    pub services: FxHashSet<ServiceKey>,
    pub endpoints: Vec<ServiceKey>,
    /// The node, its addresses, a service range or the API server's address changed. Any Service
    /// may be affected.
    pub context: bool,
    /// The labels of the node changed. Services that select nodes by them are affected.
    pub labels: bool,
    /// The node's routes or links changed. No Service depends on them.
    pub network: bool,
    /// Sockets of the node that started or stopped listening.
    pub sockets: Vec<VirtualAddress>,
}

impl Dirty {
    /// Marks the endpoints of a Service as changed; `entry` is the entry of the Service.
    pub(super) fn touch_endpoints(&mut self, service: ServiceKey, entry: &mut ServiceEntry) {
        // No Service may have a front end at the API server's addresses.
        self.context |= service.is("default", "kubernetes");
        // Endpoints without a Service have no effect yet.
        if entry.service.is_some() && !std::mem::replace(&mut entry.is_dirty, true) {
            self.endpoints.push(service);
        }
    }

    /// Returns the number of changed Services.
    #[must_use]
    pub fn len(&self) -> usize {
        let others = self.endpoints.iter().filter(|key| !self.services.contains(*key));
        self.services.len() + others.count()
    }

    /// Returns whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { services, endpoints, context, labels, network, sockets } = self;
        let is_quiet = !context && !labels && !network && sockets.is_empty();
        services.is_empty() && endpoints.is_empty() && is_quiet
    }
}
