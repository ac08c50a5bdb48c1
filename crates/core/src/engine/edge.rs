//! The edge around the engine: a kernel as the engine needs it, and the step that carries work out.

use std::fmt::Display;
use std::time::{Duration, Instant};

use super::{Engine, RepeatedError, Work};
use crate::model::{Event, Pool, VirtualAddress};
use crate::plan::{CountTargets, Observed, Operation, Outcome, Plan, Running};

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

    /// Carries operations out in their order, and returns an outcome for each.
    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome>;

    /// The time now.
    fn now(&mut self) -> Instant;

    /// The processor time that this thread has taken so far. Audits are paced by it.
    fn processor_time(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// What a step has done.
#[derive(Debug)]
pub enum Step<E> {
    /// It read where sockets listen, or could not.
    Listened(Result<(), E>),
    /// It read the kernel. Virtual servers that could not be read are retried.
    Observed(Vec<RepeatedError>),
    /// It could not read the kernel, so many times in a row where that is worth a report.
    Unobservable(E, Option<u32>),
    /// It read some virtual servers. Those that could not be read are retried.
    ObservedPools(Vec<RepeatedError>),
    /// It counted connections, or could not.
    Counted(Result<(), E>),
    /// It applied a plan. Operations that failed are retried.
    Applied(Plan, Vec<RepeatedError>),
}

impl<E> Step<E> {
    /// What failed and is retried.
    pub fn errors(&self) -> &[RepeatedError] {
        match self {
            Self::Observed(errors) | Self::ObservedPools(errors) | Self::Applied(_, errors) => {
                errors
            }
            Self::Listened(_) | Self::Unobservable(..) | Self::Counted(_) => &[],
        }
    }
}

impl Engine {
    /// Carries out a piece of work on a kernel.
    pub fn carry_out<K: Edge>(&mut self, work: Work, kernel: &mut K) -> Step<K::Error> {
        match work {
            Work::Listen => Step::Listened(kernel.listening().map(|listening| {
                self.handle_event(Event::Listening(listening));
            })),
            Work::Observe => match kernel.observe() {
                Ok(observed) => Step::Observed(self.handle_observed(observed, kernel.now())),
                Err(error) => {
                    let attempts = self.handle_unobservable(kernel.now());
                    Step::Unobservable(error, attempts)
                }
            },
            Work::ObservePools(addresses) => self.observe_pools(&addresses, kernel),
            Work::Count(targets) => Step::Counted(kernel.connections(&targets).map(|running| {
                self.handle_connections(running, kernel.now());
            })),
            Work::Apply(plan) => {
                let outcomes = kernel.apply(plan.operations());
                let errors = self.handle_outcomes(&plan, outcomes, kernel.now());
                Step::Applied(plan, errors)
            }
        }
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
            let step = self.carry_out(work, kernel);
            if let Some(failed) = step.errors().first() {
                return Err(failed.error.message.clone());
            }
            if let Step::Unobservable(error, _) | Step::Listened(Err(error)) = step {
                return Err(error.to_string());
            }
        }
        Ok(())
    }

    /// Reads virtual servers. One that cannot be read does not stop the others.
    fn observe_pools<K: Edge>(
        &mut self,
        addresses: &[VirtualAddress],
        kernel: &mut K,
    ) -> Step<K::Error> {
        let is_part = self.is_auditing();
        if is_part {
            self.rounds.began = Some(kernel.processor_time());
        }
        let mut errors = Vec::new();
        let mut unreadable = None;
        for address in addresses {
            match kernel.observe_pool(address) {
                Ok(pool) => self.handle_observed_pools(&[*address], pool.into_iter().collect()),
                // Virtual servers that are not in doubt can wait until the kernel can be read.
                Err(error) if is_part && K::is_unreadable(&error) => {
                    unreadable = Some((error, self.handle_unobservable(kernel.now())));
                    break;
                }
                Err(error) => {
                    let now = kernel.now();
                    errors.push(self.handle_unobservable_pool(*address, error, now));
                }
            }
        }
        match unreadable {
            Some((error, attempts)) => Step::Unobservable(error, attempts),
            None => Step::ObservedPools(errors),
        }
    }
}
