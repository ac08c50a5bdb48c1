//! The node's kernel as the engine sees it: what is applied is measured and counted.

use std::fs;
use std::mem;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::engine::Edge;
use kube_ipvs_core::model::{Pool, VirtualAddress};
use kube_ipvs_core::plan::{
    CountTargets, Observed, Operation, Outcome, Running, Sample, SampleTargets,
};
use netlink_ipvs::KernelError;
use tracing::{debug, warn};

use super::log_lines::Sum;
use super::metrics::Metrics;
use super::takeover::Takeover;
use crate::kernel::Kernel;
use crate::kernel::conntrack::Sweep;

/// The node's kernel.
pub(super) struct NodeKernel<'a> {
    pub(super) kernel: &'a mut Kernel,
    pub(super) takeover: &'a mut Takeover,
    pub(super) metrics: &'a Metrics,
    /// Whether IPVS added its counters up at the last sample.
    pub(super) adds_up: &'a mut bool,
    /// What was applied, for the log.
    pub(super) sum: &'a mut Sum,
}

impl Edge for NodeKernel<'_> {
    type Error = KernelError;

    fn observe(&mut self) -> Result<Observed, KernelError> {
        self.takeover.observe(self.kernel)
    }

    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, KernelError> {
        self.kernel.ipvs.observe_server(address)
    }

    fn is_unreadable(error: &KernelError) -> bool {
        !error.is_of_one_object()
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, KernelError> {
        self.kernel.listening()
    }

    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, KernelError> {
        self.kernel.conntrack.count(targets)
    }

    fn sample(&mut self, targets: &SampleTargets) -> Result<Option<Sample>, KernelError> {
        let sample = self.kernel.ipvs.sample(targets)?;
        if mem::replace(self.adds_up, sample.is_some()) && sample.is_none() {
            warn!(
                "kube-ipvs.io/eject has no effect: IPVS does not add up its counters while \
                 net.ipv4.vs.run_estimation is 0; on the node run \
                 `sysctl -w net.ipv4.vs.run_estimation=1`"
            );
        }
        Ok(sample)
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        let start = Instant::now();
        let outcomes = self.kernel.apply(operations);
        let took = start.elapsed();
        self.metrics.applied(operations, &outcomes, took);
        for Sweep { family, deleted, took } in self.kernel.conntrack.take_sweeps() {
            self.metrics.kube_proxy.swept(family, deleted, took);
        }
        let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        self.sum.add(operations.len(), failures, took);
        for operation in operations {
            debug!(%operation, "{}", operation.effect());
        }
        outcomes
    }

    fn now(&mut self) -> Instant {
        Instant::now()
    }

    /// The processor time of this thread, including the kernel: the first number of `schedstat`, in
    /// nanoseconds. The kernel updates it at a tick, which may be as long as the read of an audit's
    /// part, or when the thread yields. A kernel without this counter gives the elapsed time.
    fn processor_time(&mut self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        thread::yield_now();
        let counts = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let time = counts.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok());
        time.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
    }
}
