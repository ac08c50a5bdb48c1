//! Complete lists: objects that are missing from a list are removed.

use rustc_hash::FxHashSet;

use super::State;
use crate::model::{EndpointSlice, Service};

impl State {
    pub(super) fn replace_services(&mut self, services: Vec<Service>) {
        let listed: FxHashSet<_> = services.iter().map(|service| service.key.clone()).collect();
        let gone: Vec<_> =
            self.service_keys().filter(|key| !listed.contains(*key)).cloned().collect();
        services.into_iter().for_each(|service| self.set_service(service));
        gone.iter().for_each(|key| self.remove_service(key));
    }

    pub(super) fn replace_slices(&mut self, slices: Vec<EndpointSlice>) {
        let listed: FxHashSet<_> = slices.iter().map(|slice| slice.key.clone()).collect();
        let gone: Vec<_> =
            self.slices.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        // Added first, so that an endpoint that moves from a removed slice to a listed one is never
        // missing.
        slices.into_iter().for_each(|slice| self.set_slice(slice));
        gone.iter().for_each(|key| self.remove_slice(key));
    }
}
