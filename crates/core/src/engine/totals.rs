//! Totals of the desired state, maintained incrementally.

use std::collections::BTreeSet;

use crate::canary;
use crate::model::{
    DesiredService, Family, FrontendKind, Refusal, RefusalReason, ServiceKey, Target,
};

/// Totals of the desired state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub services: usize,
    pub frontends: usize,
    pub pools: usize,
    /// In all pools, including draining ones.
    pub backends: usize,
    /// Front ends that Services request but do not get, without those that they exclude themselves.
    pub refusals: usize,
    /// Service ports with internal traffic policy Local and no endpoint on this node, by family.
    pub internal_without_local: [usize; Family::BOTH.len()],
    /// Service ports with external traffic policy Local and no endpoint on this node, by family.
    pub external_without_local: [usize; Family::BOTH.len()],
}

impl Totals {
    pub(super) fn add(&mut self, key: &ServiceKey, program: &DesiredService) {
        self.count(key, program, |total, more| *total += more);
    }

    pub(super) fn remove(&mut self, key: &ServiceKey, program: &DesiredService) {
        self.count(key, program, |total, less| *total = total.saturating_sub(less));
    }

    /// Counts one Service, unless it is the canary. The cost is proportional to its front ends and the
    /// chunks of its pools.
    fn count(
        &mut self,
        key: &ServiceKey,
        program: &DesiredService,
        change: impl Fn(&mut usize, usize),
    ) {
        if canary::is(key) {
            return;
        }
        change(&mut self.services, 1);
        change(&mut self.frontends, program.frontends.len());
        let is_meant = |refusal: &&Refusal| refusal.reason == RefusalReason::NotServed;
        change(&mut self.refusals, program.refusals.iter().filter(|it| !is_meant(it)).count());
        for pool in program.serving_pools() {
            change(&mut self.pools, 1);
            change(&mut self.backends, pool.backends.len());
        }
        // A port has at most one front end per ClusterIP, but may have many at other addresses.
        let dropping = program.frontends.iter().filter(|front| front.outside == Target::Drop);
        let ports: BTreeSet<_> = dropping
            .map(|front| {
                let internal = front.kind == FrontendKind::ClusterIp;
                (internal, front.address.family(), &front.port_name)
            })
            .collect();
        for (internal, family, _) in ports {
            let without = match internal {
                true => &mut self.internal_without_local,
                false => &mut self.external_without_local,
            };
            change(family.pick_mut(without), 1);
        }
    }
}
