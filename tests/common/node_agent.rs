//! An engine and a model kernel under one virtual clock.

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::{Edge, Engine, Work};
use kube_ipvs_core::model::{Event, Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running};

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
    /// What that has taken so far.
    spent: Duration,
}

impl NodeAgent {
    /// Returns an agent that starts on a kernel.
    pub fn new(settings: &Settings, kernel: ModelKernel) -> Self {
        Self::auditing(settings, kernel, None)
    }

    /// Returns the same with audits.
    pub fn auditing(settings: &Settings, kernel: ModelKernel, period: Option<Duration>) -> Self {
        let reading = Duration::from_micros(70);
        Self {
            engine: Engine::new(settings, period),
            kernel,
            now: Instant::now(),
            reading,
            spent: Duration::ZERO,
        }
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
                (Some(Work::Apply(plan)), _) => applied.extend(plan),
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
        let Self { kernel, now, reading, spent, .. } = self;
        let mut clocked = Clocked { kernel, now, reading: *reading, spent };
        let work = self.engine.next_work(&mut clocked)?;
        // What cannot be read or done is tried again.
        let _ = self.engine.carry_out(&work, &mut clocked);
        self.now += Duration::from_millis(1);
        Some(work)
    }
}

/// A model kernel at a moment.
struct Clocked<'a> {
    kernel: &'a mut ModelKernel,
    now: &'a mut Instant,
    reading: Duration,
    spent: &'a mut Duration,
}

impl Edge for Clocked<'_> {
    type Error = &'static str;

    fn observe(&mut self) -> Result<Observed, Self::Error> {
        Ok(self.kernel.observe())
    }

    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, Self::Error> {
        *self.now += self.reading;
        *self.spent += self.reading;
        self.kernel.observe_pool(address)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, Self::Error> {
        Ok(self.kernel.listening.clone())
    }

    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, Self::Error> {
        Ok(self.kernel.connections(targets))
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        self.kernel.apply(operations)
    }

    fn now(&mut self) -> Instant {
        *self.now
    }

    fn processor_time(&mut self) -> Duration {
        *self.spent
    }
}
