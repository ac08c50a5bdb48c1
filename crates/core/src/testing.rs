//! A kernel for tests and benches.

use std::convert::Infallible;
use std::time::Instant;

use crate::engine::{Edge, Engine};
use crate::model::{Pool, VirtualAddress};
use crate::plan::{CountTargets, Failure, FailureKind, Observed, Operation, Outcome, Running};

/// A kernel that holds nothing. What becomes of operations, a closure says.
#[derive(Debug)]
pub struct EmptyKernel<F> {
    /// The time now.
    pub now: Instant,
    /// Where sockets of the node listen.
    pub listening: Vec<VirtualAddress>,
    apply: F,
}

impl<F: FnMut(&[Operation]) -> Vec<Outcome>> EmptyKernel<F> {
    /// A kernel at a moment.
    pub fn new(now: Instant, apply: F) -> Self {
        Self { now, listening: Vec::new(), apply }
    }
}

/// The outcomes of operations that all succeed.
#[must_use]
pub fn all_succeed(operations: &[Operation]) -> Vec<Outcome> {
    operations.iter().map(|_| Ok(())).collect()
}

/// The outcomes if the kernel refuses some operations.
pub fn refuse(operations: &[Operation], is_refused: impl Fn(&Operation) -> bool) -> Vec<Outcome> {
    let refusal = || Failure { kind: FailureKind::Refused, message: "no memory".to_owned() };
    operations.iter().map(|it| if is_refused(it) { Err(refusal()) } else { Ok(()) }).collect()
}

/// Does all the work that there is on a kernel where nothing fails. Returns the number of
/// operations.
pub fn settle_on_empty(engine: &mut Engine, now: Instant) -> usize {
    let mut count = 0;
    let mut kernel = EmptyKernel::new(now, |operations: &[_]| {
        count += operations.len();
        all_succeed(operations)
    });
    // Nothing fails.
    let _ = engine.settle(&mut kernel);
    count
}

impl<F: FnMut(&[Operation]) -> Vec<Outcome>> Edge for EmptyKernel<F> {
    type Error = Infallible;

    fn observe(&mut self) -> Result<Observed, Infallible> {
        Ok(Observed::default())
    }

    fn observe_pool(&mut self, _: &VirtualAddress) -> Result<Option<Pool>, Infallible> {
        Ok(None)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, Infallible> {
        Ok(self.listening.clone())
    }

    fn connections(&mut self, _: &CountTargets) -> Result<Vec<Running>, Infallible> {
        Ok(Vec::new())
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        (self.apply)(operations)
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}
