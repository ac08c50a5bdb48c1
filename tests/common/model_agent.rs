//! An engine and a model kernel whose clock is virtual.

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::{Engine, Work};
use kube_ipvs_core::model::{Event, Settings};
use kube_ipvs_core::plan::Operation;

use super::model_kernel::ModelKernel;

/// The limit of steps, more than any case needs: an agent that takes more does not converge.
const MAX_STEPS: usize = 2_000;

#[derive(Debug)]
pub struct ModelAgent {
    pub engine: Engine,
    pub kernel: ModelKernel,
}

impl ModelAgent {
    /// Returns an agent that starts on a kernel.
    pub fn new(settings: &Settings, kernel: ModelKernel) -> Self {
        Self::auditing(settings, kernel, None)
    }

    /// Returns the same with audits.
    pub fn auditing(settings: &Settings, kernel: ModelKernel, period: Option<Duration>) -> Self {
        Self { engine: Engine::new(settings, period), kernel }
    }

    pub fn deliver(&mut self, event: impl Into<Event>) -> &mut Self {
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
                (None, Some(due)) => self.kernel.now = self.kernel.now.max(due),
                (None, None) => return Ok(applied),
            }
        }
        Err(format!("no end of work: {:?}", applied.iter().rev().take(8).collect::<Vec<_>>()))
    }

    /// Works for a while. Returns the work with its start times.
    pub fn run_for(&mut self, time: Duration) -> Vec<(Instant, Work)> {
        let (mut done, end) = (Vec::new(), self.kernel.now + time);
        while self.kernel.now < end {
            let begun = self.kernel.now;
            match self.step() {
                Some(work) => done.push((begun, work)),
                None => {
                    let due = self.engine.poll_timeout().unwrap_or(end);
                    // Time advances, whatever is due.
                    self.kernel.now = due.max(begun + Duration::from_micros(1)).min(end);
                }
            }
        }
        done
    }

    /// Does one piece of work, if any is due, and returns it.
    pub fn step(&mut self) -> Option<Work> {
        let work = self.engine.next_work(&mut self.kernel)?;
        // What cannot be read or done is retried.
        let _ = self.engine.carry_out(&work, &mut self.kernel);
        self.kernel.now += Duration::from_millis(1);
        Some(work)
    }
}
