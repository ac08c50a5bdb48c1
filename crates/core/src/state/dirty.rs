//! What has changed and is still to be looked at.

use rustc_hash::FxHashSet;

use super::ServiceEntry;
use crate::model::{ServiceKey, VirtualAddress};

/// What has changed and is still to be looked at.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Services that changed themselves, so that their front ends may be others now.
    pub services: FxHashSet<ServiceKey>,
    /// Services whose endpoints changed.
    pub endpoints: Vec<ServiceKey>,
    /// The node, its addresses, a service range or the API server's address: any Service may be
    /// touched.
    pub context: bool,
    /// The node's routes or links. No Service depends on them.
    pub network: bool,
    /// Where something of the node has begun or ceased to listen.
    pub sockets: Vec<VirtualAddress>,
}

impl Dirty {
    /// Notes that the endpoints of a Service have changed, which this is the entry of.
    pub(super) fn touch_endpoints(&mut self, service: ServiceKey, entry: &mut ServiceEntry) {
        // Where the API server answers, no Service may have a front end.
        self.context |= service.is("default", "kubernetes");
        // Without the Service they are nothing to anybody yet.
        if entry.service.is_some() && !std::mem::replace(&mut entry.is_dirty, true) {
            self.endpoints.push(service);
        }
    }

    /// How many Services have changed in one way or the other.
    #[must_use]
    pub fn len(&self) -> usize {
        let others = self.endpoints.iter().filter(|key| !self.services.contains(*key));
        self.services.len() + others.count()
    }

    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { services, endpoints, context, network, sockets } = self;
        let is_quiet = !context && !network && sockets.is_empty();
        services.is_empty() && endpoints.is_empty() && is_quiet
    }
}
