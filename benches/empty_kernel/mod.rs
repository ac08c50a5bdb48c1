//! Work on a kernel that holds nothing, for the benches.

use std::time::Instant;

use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::testing::{EmptyKernel, all_succeed};

/// Works until there is nothing to do. Returns the number of operations.
pub(crate) fn settle(engine: &mut Engine, now: Instant) -> usize {
    let mut count = 0;
    let mut kernel = EmptyKernel::new(now, |operations: &[_]| {
        count += operations.len();
        all_succeed(operations)
    });
    // Nothing fails.
    let _ = engine.settle(&mut kernel);
    count
}
