//! Metrics under kube-proxy's names, so that dashboards and alerts keep working. Those of iptables
//! are left out.

use std::time::{Duration, SystemTime};

use kube_ipvs_core::engine::Totals;
use kube_ipvs_core::model::Family;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, exponential_buckets,
};

use super::{gauge, register, set, set_time};

const FAMILY: &str = "ip_family";

/// One value per family, indexed by `Family as usize`.
type PerFamily<T> = [T; Family::BOTH.len()];

pub(super) struct KubeProxy {
    sync_duration: PerFamily<Histogram>,
    last_sync: PerFamily<Gauge>,
    last_queued: PerFamily<Gauge>,
    programming_duration: PerFamily<Histogram>,
    conntrack_duration: PerFamily<Histogram>,
    conntrack_deleted: PerFamily<IntCounter>,
    internal_without_local: PerFamily<IntGauge>,
    external_without_local: PerFamily<IntGauge>,
    pub(super) endpoint_changes: Changes,
    pub(super) service_changes: Changes,
    pub(super) healthz: Probes,
    pub(super) livez: Probes,
}

/// Reported changes, and those that are not in the kernel yet.
pub(super) struct Changes {
    pending: IntGauge,
    total: IntCounter,
}

pub(super) struct Probes {
    ok: IntCounter,
    unavailable: IntCounter,
}

impl KubeProxy {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let without_local = IntGaugeVec::new(
            Opts::new(
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
                "Service ports with traffic policy Local and no endpoint on this node",
            ),
            &["traffic_policy", FAMILY],
        )?;
        let without_local = register(registry, without_local)?;
        let without_local = |policy| {
            Family::BOTH.map(|family| without_local.with_label_values(&[policy, name(family)]))
        };
        let conntrack_deleted = IntCounterVec::new(
            Opts::new(
                "kubeproxy_conntrack_reconciler_deleted_entries_total",
                "Connection-tracking entries that kept UDP clients on a removed endpoint",
            ),
            &[FAMILY],
        )?;
        let conntrack_deleted = register(registry, conntrack_deleted)?;
        Ok(Self {
            sync_duration: histograms(
                registry,
                "kubeproxy_sync_proxy_rules_duration_seconds",
                "Time that the kernel took for the operations of one sync",
                exponential_buckets(0.001, 2.0, 15)?,
            )?,
            last_sync: gauges(
                registry,
                "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                "Last time at which the kernel was up to date",
            )?,
            last_queued: gauges(
                registry,
                "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
                "Time of the last change",
            )?,
            programming_duration: histograms(
                registry,
                "kubeproxy_network_programming_duration_seconds",
                "Time from a change of endpoints to its presence in the kernel",
                programming_buckets(),
            )?,
            conntrack_duration: histograms(
                registry,
                "kubeproxy_conntrack_reconciler_sync_duration_seconds",
                "Time to delete entries that kept UDP clients on a removed endpoint",
                exponential_buckets(0.001, 2.0, 15)?,
            )?,
            conntrack_deleted: Family::BOTH
                .map(|family| conntrack_deleted.with_label_values(&[name(family)])),
            internal_without_local: without_local("internal"),
            external_without_local: without_local("external"),
            endpoint_changes: Changes::new(registry, "endpoint")?,
            service_changes: Changes::new(registry, "service")?,
            healthz: Probes::new(registry, "healthz")?,
            livez: Probes::new(registry, "livez")?,
        })
    }

    pub(super) fn queued(&self, now: SystemTime) {
        self.last_queued.iter().for_each(|gauge| set_time(gauge, now));
    }

    pub(super) fn sync_took(&self, family: Family, took: Duration) {
        family.pick(&self.sync_duration).observe(took.as_secs_f64());
    }

    pub(super) fn programmed(&self, family: Family, after: Duration) {
        family.pick(&self.programming_duration).observe(after.as_secs_f64());
    }

    pub(super) fn swept(&self, family: Family, deleted: usize, took: Duration) {
        family.pick(&self.conntrack_duration).observe(took.as_secs_f64());
        family.pick(&self.conntrack_deleted).inc_by(deleted as u64);
    }

    pub(super) fn settled(&self, totals: &Totals, now: SystemTime) {
        self.endpoint_changes.pending.set(0);
        self.service_changes.pending.set(0);
        self.last_sync.iter().for_each(|gauge| set_time(gauge, now));
        let pairs = [
            (&self.internal_without_local, totals.internal_without_local),
            (&self.external_without_local, totals.external_without_local),
        ];
        for (gauge, count) in
            pairs.into_iter().flat_map(|(gauges, counts)| gauges.iter().zip(counts))
        {
            set(gauge, count);
        }
    }
}

impl Changes {
    fn new(registry: &Registry, of: &str) -> prometheus::Result<Self> {
        let name = |what| format!("kubeproxy_sync_proxy_rules_{of}_changes_{what}");
        let total = IntCounter::new(name("total"), format!("Changes of {of}s"))?;
        Ok(Self {
            pending: gauge(
                registry,
                &name("pending"),
                &format!("Changes of {of}s that are not in the kernel yet"),
            )?,
            total: register(registry, total)?,
        })
    }

    pub(super) fn add(&self, count: usize) {
        self.pending.add(i64::try_from(count).unwrap_or(i64::MAX));
        self.total.inc_by(count as u64);
    }
}

impl Probes {
    fn new(registry: &Registry, of: &str) -> prometheus::Result<Self> {
        let opts = Opts::new(
            format!("kubeproxy_proxy_{of}_total"),
            format!("Answers to /{of}, by status code"),
        );
        let all = register(registry, IntCounterVec::new(opts, &["code"])?)?;
        Ok(Self {
            ok: all.with_label_values(&["200"]),
            unavailable: all.with_label_values(&["503"]),
        })
    }

    pub(super) fn count(&self, success: bool) {
        if success { self.ok.inc() } else { self.unavailable.inc() }
    }
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
) -> prometheus::Result<PerFamily<Histogram>> {
    let opts = HistogramOpts::new(name, help).buckets(buckets);
    let all = register(registry, HistogramVec::new(opts, &[FAMILY])?)?;
    Ok(Family::BOTH.map(|family| all.with_label_values(&[self::name(family)])))
}

fn gauges(registry: &Registry, name: &str, help: &str) -> prometheus::Result<PerFamily<Gauge>> {
    let all = register(registry, GaugeVec::new(Opts::new(name, help), &[FAMILY])?)?;
    Ok(Family::BOTH.map(|family| all.with_label_values(&[self::name(family)])))
}

fn name(family: Family) -> &'static str {
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
