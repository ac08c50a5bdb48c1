//! The results of health checks, as Kubernetes' components have them at `/metrics/slis`
//! (`component-base/metrics/prometheus/slis`).

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::{register, set};

/// What every probe checks: that changes reach the kernel.
const CHECK: &str = "sync";

pub(in crate::agent) struct Slis {
    registry: Registry,
    last: IntGaugeVec,
    total: IntCounterVec,
}

impl Slis {
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let last = "This metric records the result of a single healthcheck.";
        let last = IntGaugeVec::new(Opts::new("kubernetes_healthcheck", last), &["name", "type"]);
        let total = "This metric records the results of all healthcheck.";
        let total = Opts::new("kubernetes_healthchecks_total", total);
        let total = IntCounterVec::new(total, &["name", "type", "status"]);
        Ok(Self { last: register(&registry, last)?, total: register(&registry, total)?, registry })
    }

    /// Records the answer to a probe such as `livez`.
    pub(super) fn probed(&self, probe: &str, success: bool) {
        set(&self.last.with_label_values(&[CHECK, probe]), usize::from(success));
        let status = if success { "success" } else { "error" };
        self.total.with_label_values(&[CHECK, probe, status]).inc();
    }

    /// Formats the metrics in the text format 0.0.4.
    pub(in crate::agent) fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
