//! Totals of the desired state, maintained incrementally.

use std::collections::BTreeSet;
use std::ops::{AddAssign, SubAssign};

use crate::model::{DesiredService, Family, FrontendKind, Pool, Shared, Target};

/// Totals of the desired state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub services: usize,
    pub frontends: usize,
    pub pools: usize,
    /// In all pools, including draining ones.
    pub backends: usize,
    /// Front ends that Services request but do not get.
    pub refusals: usize,
    /// Service ports with internal traffic policy Local and no endpoint on this node, by family.
    pub internal_without_local: [usize; Family::BOTH.len()],
    /// Service ports with external traffic policy Local and no endpoint on this node, by family.
    pub external_without_local: [usize; Family::BOTH.len()],
}

impl Totals {
    /// Counts one Service. The cost is proportional to its front ends and the chunks of its pools.
    #[must_use]
    pub fn of(program: &DesiredService) -> Self {
        let (pools, backends) = counted(&program.pools);
        let mut totals = Self {
            services: 1,
            frontends: program.frontends.len(),
            pools,
            backends,
            refusals: program.refusals.len(),
            ..Self::default()
        };
        // A port has at most one front end per ClusterIP, but may have many at other addresses.
        let dropping = program.frontends.iter().filter(|front| front.outside == Target::Drop);
        let ports: BTreeSet<_> = dropping
            .map(|front| {
                let internal = front.kind == FrontendKind::ClusterIp;
                (internal, front.address.family(), &front.port_name)
            })
            .collect();
        for (internal, family, _) in ports {
            let without = if internal {
                &mut totals.internal_without_local
            } else {
                &mut totals.external_without_local
            };
            *family.pick_mut(without) += 1;
        }
        totals
    }

    /// Applies a change of a Service's pools; its front ends are unchanged.
    pub(super) fn exchange_pools(&mut self, old: &[Shared<Pool>], new: &[Shared<Pool>]) {
        let [(old_pools, old_backends), (pools, backends)] = [old, new].map(counted);
        self.pools = self.pools + pools - old_pools;
        self.backends = self.backends + backends - old_backends;
    }

    fn combine(&mut self, other: &Self, combine: fn(usize, usize) -> usize) {
        let pairs = [
            (&mut self.services, other.services),
            (&mut self.frontends, other.frontends),
            (&mut self.pools, other.pools),
            (&mut self.backends, other.backends),
            (&mut self.refusals, other.refusals),
        ];
        let per_family = [
            (&mut self.internal_without_local, other.internal_without_local),
            (&mut self.external_without_local, other.external_without_local),
        ];
        let per_family =
            per_family.into_iter().flat_map(|(mine, theirs)| mine.iter_mut().zip(theirs));
        for (mine, theirs) in pairs.into_iter().chain(per_family) {
            *mine = combine(*mine, theirs);
        }
    }
}

/// Returns the number of pools with backends, and the number of backends.
fn counted(pools: &[Shared<Pool>]) -> (usize, usize) {
    pools
        .iter()
        .map(|pool| pool.backends.len())
        .fold((0, 0), |(pools, backends), more| (pools + usize::from(more > 0), backends + more))
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.combine(&other, usize::saturating_add);
    }
}

impl SubAssign for Totals {
    fn sub_assign(&mut self, other: Self) {
        self.combine(&other, usize::saturating_sub);
    }
}
