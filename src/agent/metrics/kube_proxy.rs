//! Metrics under kube-proxy's names, so that dashboards and alerts keep working. Those of iptables
//! are left out.

use std::time::{Duration, SystemTime};

use kube_ipvs_core::engine::Totals;
use kube_ipvs_core::model::Family;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

use super::{register, set, set_time, with_series};

const FAMILY: &str = "ip_family";

pub(in crate::agent) struct KubeProxy {
    sync_duration: HistogramVec,
    last_sync: GaugeVec,
    last_queued: GaugeVec,
    programming_duration: HistogramVec,
    conntrack_duration: HistogramVec,
    conntrack_deleted: IntCounterVec,
    without_local: IntGaugeVec,
    /// The pending changes, and all.
    services: (IntGauge, IntCounter),
    endpoints: (IntGauge, IntCounter),
    healthz: IntCounterVec,
    livez: IntCounterVec,
}

impl KubeProxy {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let families = || Family::BOTH.map(|family| [name(family)]);
        let histograms = |name, help, buckets| {
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            let all = register(registry, HistogramVec::new(opts, &[FAMILY]))?;
            prometheus::Result::Ok(with_series(all, families()))
        };
        let times = |name, help| {
            let all = register(registry, GaugeVec::new(Opts::new(name, help), &[FAMILY]))?;
            prometheus::Result::Ok(with_series(all, families()))
        };
        let conntrack_deleted = Opts::new(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Connection-tracking entries that kept UDP clients on a removed endpoint",
        );
        let conntrack_deleted = IntCounterVec::new(conntrack_deleted, &[FAMILY]);
        let without_local = Opts::new(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
            "Service ports with traffic policy Local and no endpoint on this node",
        );
        let without_local = IntGaugeVec::new(without_local, &["traffic_policy", FAMILY]);
        let policies = ["internal", "external"].into_iter();
        let policies = policies.flat_map(|policy| families().map(|[family]| [policy, family]));
        Ok(Self {
            sync_duration: histograms(
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time that the kernel took for the operations of one sync",
                exponential_buckets(0.001, 2.0, 15)?,
            )?,
            last_sync: times(
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Last time at which the kernel was up to date",
            )?,
            last_queued: times(
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "Time of the last change",
            )?,
            programming_duration: histograms(
                "kubeproxy_network_programming_duration_seconds",
                "Time from a change of endpoints to its presence in the kernel",
                programming_buckets(),
            )?,
            conntrack_duration: histograms(
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Time to delete entries that kept UDP clients on a removed endpoint",
                exponential_buckets(0.001, 2.0, 15)?,
            )?,
            conntrack_deleted: with_series(register(registry, conntrack_deleted)?, families()),
            without_local: with_series(register(registry, without_local)?, policies),
            services: changes(registry, "service")?,
            endpoints: changes(registry, "endpoint")?,
            healthz: probes(registry, "healthz")?,
            livez: probes(registry, "livez")?,
        })
    }

    pub(super) fn queued(&self, now: SystemTime) {
        set_times(&self.last_queued, now);
    }

    pub(super) fn services_changed(&self, count: usize) {
        count_changes(&self.services, count);
    }

    pub(super) fn endpoints_changed(&self, count: usize) {
        count_changes(&self.endpoints, count);
    }

    pub(super) fn sync_took(&self, family: Family, took: Duration) {
        observe(&self.sync_duration, family, took);
    }

    /// Observes the time from a change of endpoints to its presence in the kernel.
    pub(in crate::agent) fn programmed(&self, family: Family, after: Duration) {
        observe(&self.programming_duration, family, after);
    }

    pub(in crate::agent) fn swept(&self, family: Family, deleted: usize, took: Duration) {
        observe(&self.conntrack_duration, family, took);
        self.conntrack_deleted.with_label_values(&[name(family)]).inc_by(deleted as u64);
    }

    pub(super) fn settled(&self, totals: &Totals, now: SystemTime) {
        self.services.0.set(0);
        self.endpoints.0.set(0);
        set_times(&self.last_sync, now);
        for family in Family::BOTH {
            for (policy, counts) in [
                ("internal", &totals.internal_without_local),
                ("external", &totals.external_without_local),
            ] {
                let gauge = self.without_local.with_label_values(&[policy, name(family)]);
                set(&gauge, *family.pick(counts));
            }
        }
    }

    /// Counts the answer to a probe such as `livez`, if kube-proxy has it.
    pub(super) fn probed(&self, probe: &str, success: bool) {
        let answers = match probe {
            "healthz" => &self.healthz,
            "livez" => &self.livez,
            _ => return,
        };
        answers.with_label_values(&[code(success)]).inc();
    }
}

fn changes(registry: &Registry, of: &str) -> prometheus::Result<(IntGauge, IntCounter)> {
    let name = |end| format!("kubeproxy_sync_proxy_rules_{of}_changes_{end}");
    let help = format!("Changes of {of}s that are not in the kernel yet");
    let pending = register(registry, IntGauge::new(name("pending"), help))?;
    let total = IntCounter::new(name("total"), format!("Changes of {of}s"));
    Ok((pending, register(registry, total)?))
}

fn count_changes((pending, total): &(IntGauge, IntCounter), count: usize) {
    pending.add(i64::try_from(count).unwrap_or(i64::MAX));
    total.inc_by(count as u64);
}

fn probes(registry: &Registry, of: &str) -> prometheus::Result<IntCounterVec> {
    let help = format!("Answers to /{of}, by status code");
    let opts = Opts::new(format!("kubeproxy_proxy_{of}_total"), help);
    let all = register(registry, IntCounterVec::new(opts, &["code"]))?;
    Ok(with_series(all, [true, false].map(|success| [code(success)])))
}

fn code(success: bool) -> &'static str {
    if success { "200" } else { "503" }
}

fn observe(durations: &HistogramVec, family: Family, took: Duration) {
    durations.with_label_values(&[name(family)]).observe(took.as_secs_f64());
}

fn set_times(times: &GaugeVec, now: SystemTime) {
    for family in Family::BOTH {
        set_time(&times.with_label_values(&[name(family)]), now);
    }
}

pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// In seconds: in steps of one up to a minute, of five up to two, of thirty up to five.
fn programming_buckets() -> Vec<f64> {
    let coarse = (60..120).step_by(5).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain((1..60).chain(coarse).map(f64::from)).collect()
}
