//! Clients that never stop asking while a case changes things.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::VirtualAddress;

use super::client::{PATIENCE, Silence, ask_from_port};
use super::host::Host;
use super::namespace::Namespace;

/// A client that asks again and again, each time over a new connection or socket.
pub(crate) struct Load {
    shared: Arc<Shared>,
    /// `None` once it has been asked for its report.
    thread: Option<JoinHandle<LoadReport>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    requests: AtomicUsize,
}

/// A request that was not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FailedRequest {
    /// From when to when the client waited.
    pub(crate) during: Range<Instant>,
    /// When it was made, since the load's start.
    pub(crate) after: Duration,
    pub(crate) to: VirtualAddress,
    pub(crate) why: Silence,
}

/// What a [`Load`] has met with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LoadReport {
    /// Who asks.
    pub(crate) client: String,
    /// Answers by server.
    pub(crate) answers: BTreeMap<Host, usize>,
    /// Requests that were not answered.
    pub(crate) failures: Vec<FailedRequest>,
}

impl LoadReport {
    /// How many requests were made.
    pub(crate) fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, failures, .. } = self;
        write!(f, "{client}: {} requests, {} failed", self.requests(), failures.len())?;
        for (host, answers) in &self.answers {
            write!(f, ", {host} answered {answers}")?;
        }
        for FailedRequest { after, to, why, .. } in failures {
            write!(f, "; one to {to} after {:.3} s: {why}", after.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Load {
    /// Starts asking from a host, each of the addresses in turn, with a pause after each answer.
    pub(crate) fn start(
        namespace: &Arc<Namespace>,
        host: Host,
        to: Vec<VirtualAddress>,
        pause: Duration,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (namespace, state) = (Arc::clone(namespace), Arc::clone(&shared));
        let thread = thread::spawn(move || {
            let mut report = LoadReport { client: host.to_string(), ..LoadReport::default() };
            namespace.enter().expect("root may enter a namespace that it has made");
            let start = Instant::now();
            for to in to.into_iter().cycle() {
                if state.stopping.load(Ordering::SeqCst) {
                    break;
                }
                state.requests.fetch_add(1, Ordering::SeqCst);
                let began = Instant::now();
                match ask_from_port(namespace.client_port(), to, PATIENCE) {
                    Ok(reply) => *report.answers.entry(reply.server).or_default() += 1,
                    Err(why) => {
                        let (during, after) = (began..Instant::now(), began - start);
                        report.failures.push(FailedRequest { during, after, to, why });
                    }
                }
                thread::sleep(pause);
            }
            report
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many requests it has made.
    fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Waits until some more requests have been made.
    pub(crate) fn wait_for(&self, requests: usize) {
        let target = self.requests() + requests;
        while self.requests() < target && self.is_running() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many requests several have made together.
    pub(crate) fn total(loads: &[Self]) -> usize {
        loads.iter().map(Self::requests).sum()
    }

    /// Waits until that is so many.
    pub(crate) fn wait_for_total(loads: &[Self], requests: usize) {
        while Self::total(loads) < requests && loads.iter().all(Self::is_running) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops and reports.
    pub(crate) fn stop(mut self) -> LoadReport {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let report = self.thread.take().map(JoinHandle::join).unwrap_or(Ok(LoadReport::default()));
        report.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Load {
    /// A case that fails must not leave its clients to the next one.
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
