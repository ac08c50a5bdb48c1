//! An engine and a model kernel under one virtual clock.

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::{Engine, Work};
use kube_ipvs_core::model::{Event, Settings};
use kube_ipvs_core::plan::Operation;

use super::model_kernel::ModelKernel;

/// The limit of steps, more than any case needs: an agent that takes more does not converge.
const MAX_STEPS: usize = 2_000;

#[derive(Debug)]
pub struct NodeAgent {
    pub engine: Engine,
    pub kernel: ModelKernel,
    pub now: Instant,
    /// The processor time of reading a virtual server.
    pub reading: Duration,
}

impl NodeAgent {
    /// Returns an agent that starts on a kernel.
    pub fn new(settings: &Settings, kernel: ModelKernel) -> Self {
        Self::auditing(settings, kernel, None)
    }

    /// Returns the same with audits.
    pub fn auditing(settings: &Settings, kernel: ModelKernel, period: Option<Duration>) -> Self {
        let reading = Duration::from_micros(70);
        Self { engine: Engine::new(settings, period), kernel, now: Instant::now(), reading }
    }

    pub fn tell(&mut self, event: impl Into<Event>) -> &mut Self {
        self.engine.handle_event(event.into());
        self
    }

    /// Works until nothing is left to do, now or later. Returns the operations, or the last ones as
    /// an error if there is no end.
    pub fn settle(&mut self) -> Result<Vec<Operation>, String> {
        let mut applied = Vec::new();
        for _ in 0..MAX_STEPS {
            match (self.step(), self.engine.poll_timeout()) {
                (Some(Work::Apply(plan)), _) => applied.extend_from_slice(plan.operations()),
                (Some(_), _) => {}
                (None, Some(due)) => self.now = self.now.max(due),
                (None, None) => return Ok(applied),
            }
        }
        Err(format!("no end of work: {:?}", applied.iter().rev().take(8).collect::<Vec<_>>()))
    }

    /// Works for a while. Returns the work with its start times.
    pub fn run_for(&mut self, time: Duration) -> Vec<(Instant, Work)> {
        let (mut done, end) = (Vec::new(), self.now + time);
        while self.now < end {
            let begun = self.now;
            match self.step() {
                Some(work) => done.push((begun, work)),
                None => {
                    let due = self.engine.poll_timeout().unwrap_or(end);
                    // Time advances, whatever is due.
                    self.now = due.max(begun + Duration::from_micros(1)).min(end);
                }
            }
        }
        done
    }

    /// Does one piece of work, if any is due, and returns it.
    pub fn step(&mut self) -> Option<Work> {
        let work = self.engine.poll_work(self.now)?;
        match &work {
            Work::Observe => {
                let observed = self.kernel.observe();
                self.engine.handle_observed(observed, self.now);
            }
            Work::ObservePools(addresses) => {
                for address in addresses {
                    match self.kernel.observe_pool(address) {
                        Ok(pool) => {
                            let pools = pool.into_iter().collect();
                            self.engine.handle_observed_pools(&[*address], pools);
                        }
                        Err(why) => {
                            self.engine.handle_unobservable_pool(*address, why, self.now);
                        }
                    }
                }
                let took = self.reading * u32::try_from(addresses.len()).unwrap();
                self.now += took;
                self.engine.handle_part_read(took, self.now);
            }
            Work::Listen => {
                let listening = self.kernel.listening.clone();
                self.engine.handle_event(Event::Listening(listening));
            }
            Work::Count(targets) => {
                let running = self.kernel.connections(targets);
                self.engine.handle_connections(running, self.now);
            }
            Work::Apply(plan) => {
                let outcomes = self.kernel.apply(plan.operations());
                self.engine.handle_outcomes(plan, outcomes, self.now);
            }
        }
        self.now += Duration::from_millis(1);
        Some(work)
    }
}
