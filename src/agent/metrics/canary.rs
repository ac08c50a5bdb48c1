//! What the canary finds.

use kube_ipvs_core::model::Family;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{kube_proxy, register, set, with_series};
use crate::agent::canary::{CanaryVerdict, ProbeOutcome};

pub(in crate::agent) struct CanaryMetrics {
    status: IntGaugeVec,
    probes: IntCounterVec,
}

impl CanaryMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let status = Opts::new(
            "kube_ipvs_canary_status",
            "1 for the verdict about the data path by the agent's own probes; none before the first one",
        );
        let status = register(registry, IntGaugeVec::new(status, &["ip_family", "status"]))?;
        let statuses = of_families(CanaryVerdict::STATUSES);
        let probes =
            Opts::new("kube_ipvs_canary_probes_total", "Probes of the data path by result");
        let probes = register(registry, IntCounterVec::new(probes, &["ip_family", "result"]))?;
        let results = of_families(ProbeOutcome::ALL.map(ProbeOutcome::name));
        Ok(Self { status: with_series(status, statuses), probes: with_series(probes, results) })
    }

    pub(in crate::agent) fn probed(&self, family: Family, outcome: ProbeOutcome) {
        self.probes.with_label_values(&[kube_proxy::name(family), outcome.name()]).inc();
    }

    /// Records the present verdict of a family.
    pub(in crate::agent) fn judged(&self, family: Family, verdict: &CanaryVerdict) {
        for status in CanaryVerdict::STATUSES {
            let gauge = self.status.with_label_values(&[kube_proxy::name(family), status]);
            set(&gauge, usize::from(verdict.status() == Some(status)));
        }
    }
}

/// Returns each value beside each family.
fn of_families<const N: usize>(
    values: [&'static str; N],
) -> impl Iterator<Item = [&'static str; 2]> {
    let of = move |family| values.map(|value| [kube_proxy::name(family), value]);
    Family::BOTH.into_iter().flat_map(of)
}
