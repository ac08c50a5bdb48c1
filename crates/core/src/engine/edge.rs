//! The edge around the engine: a kernel as the engine needs it, and the step that carries work out.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::{Engine, SyncError, Work};
use crate::model::{Event, Pool, VirtualAddress};
use crate::plan::{CountTargets, Observed, Operation, Outcome, Running, Sample, SampleTargets};

/// A kernel that an engine works on: that of a node, a model of it, or one that is only read.
pub trait Edge {
    /// Why something could not be read.
    type Error: Display;

    /// Reads everything that may belong to the agent.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be read.
    fn observe(&mut self) -> Result<Observed, Self::Error>;

    /// Reads the virtual server at an address, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, Self::Error>;

    /// Whether an error of [`Edge::observe_pool`] says that nothing at all can be read.
    fn is_unreadable(_: &Self::Error) -> bool {
        false
    }

    /// Reads where sockets of the node listen.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn listening(&mut self) -> Result<Vec<VirtualAddress>, Self::Error>;

    /// Counts connections of endpoints and front ends that drain.
    ///
    /// # Errors
    ///
    /// If they cannot be counted.
    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, Self::Error>;

    /// Reads counters of virtual and real servers; `None` if this kernel does not count.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn sample(&mut self, _: &SampleTargets) -> Result<Option<Sample>, Self::Error> {
        Ok(None)
    }

    /// Carries operations out in their order, and returns an outcome for each.
    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome>;

    /// The time now.
    fn now(&mut self) -> Instant;

    /// The processor time that this thread has taken so far. Audits are paced by it.
    fn processor_time(&mut self) -> Duration {
        Duration::ZERO
    }
}

impl Engine {
    /// Carries out a piece of work on a kernel. Returns the operations that failed and the virtual
    /// servers that could not be read; they are retried.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be read; this is retried, too.
    pub fn carry_out<K: Edge>(
        &mut self,
        work: &Work,
        kernel: &mut K,
    ) -> Result<Vec<SyncError>, K::Error> {
        match work {
            Work::Listen => self.handle_event(Event::Listening(kernel.listening()?)),
            Work::Observe => {
                let observed = kernel.observe();
                let now = kernel.now();
                let observed = observed.inspect_err(|_| self.handle_unobservable(now))?;
                return Ok(self.handle_observed(observed, now));
            }
            Work::ObservePools(addresses) => return self.observe_pools(addresses, kernel),
            Work::Count(targets) => {
                let running = kernel.connections(targets)?;
                self.handle_connections(running, kernel.now());
            }
            Work::Sample(targets) => {
                let sample = kernel.sample(targets)?;
                let ejections = self.reconciler.sample(sample, kernel.now());
                self.updates.ejections.extend(ejections);
            }
            Work::Apply(plan) => {
                let outcomes = kernel.apply(plan);
                return Ok(self.handle_outcomes(plan, outcomes, kernel.now()));
            }
        }
        Ok(Vec::new())
    }

    /// The next piece of work, if there is any for now. The part of an audit is charged with all the
    /// work that follows from it.
    pub fn next_work<K: Edge>(&mut self, kernel: &mut K) -> Option<Work> {
        let work = self.poll_work(kernel.now());
        if work.is_none()
            && let Some(before) = self.rounds.began.take()
        {
            let took = kernel.processor_time().saturating_sub(before);
            self.rounds.done(took, kernel.now());
        }
        work
    }

    /// Carries out all the work that there is. Stops at the first failure and returns it.
    ///
    /// # Errors
    ///
    /// What could not be read, or why an operation failed.
    pub fn settle<K: Edge>(&mut self, kernel: &mut K) -> Result<(), String> {
        while let Some(work) = self.next_work(kernel) {
            match self.carry_out(&work, kernel) {
                Ok(errors) => {
                    if let Some(error) = errors.first() {
                        return Err(error.failure.message.clone());
                    }
                }
                // Counts and samples are repeated later.
                Err(_) if matches!(work, Work::Count(_) | Work::Sample(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Reads virtual servers. One that cannot be read does not stop the others.
    fn observe_pools<K: Edge>(
        &mut self,
        addresses: &[VirtualAddress],
        kernel: &mut K,
    ) -> Result<Vec<SyncError>, K::Error> {
        let is_part = self.is_auditing();
        if is_part {
            self.rounds.began = Some(kernel.processor_time());
        }
        let mut errors = Vec::new();
        for address in addresses {
            match kernel.observe_pool(address) {
                Ok(pool) => self.reconciler.observe_pool(*address, pool),
                // Virtual servers that are not in doubt can wait until the kernel can be read.
                Err(error) if is_part && K::is_unreadable(&error) => {
                    self.handle_unobservable(kernel.now());
                    return Err(error);
                }
                Err(error) => {
                    let now = kernel.now();
                    errors.push(self.handle_unobservable_pool(*address, error, now));
                }
            }
        }
        Ok(errors)
    }
}
