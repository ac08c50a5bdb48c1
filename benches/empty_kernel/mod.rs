//! An empty kernel on which every operation succeeds.

use std::convert::Infallible;
use std::time::Instant;

use kube_ipvs_core::engine::{Engine, Work};
use kube_ipvs_core::plan::{Observed, Operation};

/// Passes every plan of an engine to `take`, until there is no more work or `take` fails.
pub(crate) fn each_plan<E>(
    engine: &mut Engine,
    now: Instant,
    mut take: impl FnMut(&[Operation]) -> Result<(), E>,
) -> Result<(), E> {
    while let Some(work) = engine.poll_work(now) {
        match work {
            Work::Observe => drop(engine.handle_observed(Observed::default(), now)),
            Work::ObservePools(addresses) => engine.handle_observed_pools(&addresses, Vec::new()),
            Work::Listen => {}
            Work::Count(_) => engine.handle_connections(Vec::new(), now),
            Work::Apply(plan) => {
                take(plan.operations())?;
                let done = plan.operations().iter().map(|_| Ok(())).collect();
                engine.handle_outcomes(&plan, done, now);
            }
        }
    }
    Ok(())
}

/// Works until nothing is left to do. Returns the number of operations.
pub(crate) fn settle(engine: &mut Engine, now: Instant) -> usize {
    let mut count = 0;
    let Ok(()) = each_plan(engine, now, |operations| {
        count += operations.len();
        Ok::<_, Infallible>(())
    });
    count
}
