//! The metrics: under kube-proxy's names if it has them, otherwise with the prefix `kube_ipvs_`.

mod api_server;
mod canary;
mod kube_proxy;
mod operations;
mod scrape;
mod slis;

use std::time::{Duration, SystemTime};

use kube_ipvs_core::engine::Totals;
use kube_ipvs_core::model::{Change, Event};
use kube_ipvs_core::plan::{Operation, Outcome};
use kube_proxy::KubeProxy;
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};

use crate::build::VERSION;
use crate::doctor::{self, CheckVerdict};

use api_server::ApiServerMetrics;
use canary::CanaryMetrics;
use slis::Slis;

pub use scrape::{NodeReadings, encode_node, encode_traffic};

/// All metrics. There are no globals: every component gets a reference.
pub struct Metrics {
    registry: Registry,
    pub(super) kube_proxy: KubeProxy,
    operations: IntCounterVec,
    batch_operations: Histogram,
    events: IntCounterVec,
    /// As in [`gauges`].
    totals: Vec<IntGauge>,
    pub(super) draining: IntGauge,
    pub(super) ejected: IntGauge,
    pub(super) ejections: IntCounter,
    pub(super) failures: IntGauge,
    pub(super) dirty: IntGauge,
    synced: IntGauge,
    pub(super) event_published: IntCounter,
    pub(super) event_dropped: IntCounter,
    pub(super) event_refused: IntCounter,
    pub api_server: ApiServerMetrics,
    pub(super) slis: Slis,
    pub(super) updates: IntCounter,
    pub(super) repairs: IntCounter,
    /// By setting, and `put_right` or `refused`.
    pub settings: IntCounterVec,
    pub(super) read_failures: IntCounter,
    checks: IntGaugeVec,
    pub(super) canary: CanaryMetrics,
}

/// Returns name, help and value of the gauges of the desired state.
fn gauges(totals: &Totals) -> [(&'static str, &'static str, usize); 5] {
    [
        ("kube_ipvs_services", "Services that are served", totals.services),
        ("kube_ipvs_frontends", "Front ends of Services", totals.frontends),
        ("kube_ipvs_virtual_servers", "IPVS virtual servers", totals.pools),
        (
            "kube_ipvs_real_servers",
            "IPVS real servers of all virtual servers, including draining ones",
            totals.backends,
        ),
        (
            "kube_ipvs_refused_frontends",
            "Front ends that Services request but do not get",
            totals.refusals,
        ),
    ]
}

/// Values of label `kind` of events.
const EVENT_KINDS: [&str; 7] =
    ["service", "slice", "node", "service_cidr", "addresses", "routes", "links"];

impl Metrics {
    /// Returns metrics without any counts.
    ///
    /// # Errors
    ///
    /// Only if two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        build_info(&registry)?;
        let gauge = |name, help| register(&registry, IntGauge::new(name, help));
        let counter = |name, help| register(&registry, IntCounter::new(name, help));
        let counters = |name, help, labels: &[_]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let events = "Events of the sources, by kind of object";
        let events = counters("kube_ipvs_events_total", events, &["kind"])?;
        let operations = "Operations on the kernel and their results";
        let operations = counters("kube_ipvs_operations_total", operations, &["kind", "result"])?;
        let writes = "Reported events, by the result of writing them as Kubernetes Events";
        let writes = counters("kube_ipvs_event_writes_total", writes, &["result"])?;
        let totals = gauges(&Totals::default()).into_iter();
        Ok(Self {
            kube_proxy: KubeProxy::new(&registry)?,
            operations: with_series(operations, operations::labels()),
            batch_operations: batch_operations(&registry)?,
            events: with_series(events, EVENT_KINDS.map(|kind| [kind])),
            totals: totals.map(|(name, help, _)| gauge(name, help)).collect::<Result<_, _>>()?,
            draining: gauge(
                "kube_ipvs_draining_real_servers",
                "IPVS real servers that are no longer desired and keep established connections",
            )?,
            ejected: gauge(
                "kube_ipvs_ejected_real_servers",
                "IPVS real servers that get no new connections because they do not answer",
            )?,
            ejections: counter(
                "kube_ipvs_ejections_total",
                "How often a real server was ejected because it did not answer",
            )?,
            failures: gauge(
                "kube_ipvs_failed_operations",
                "Operations that failed and are retried",
            )?,
            dirty: gauge(
                "kube_ipvs_dirty_services",
                "Services whose change is not programmed yet",
            )?,
            synced: gauge("kube_ipvs_synced", "1 once the first full sync is in the kernel")?,
            event_published: writes.with_label_values(&["published"]),
            event_dropped: writes.with_label_values(&["dropped"]),
            event_refused: writes.with_label_values(&["refused"]),
            api_server: ApiServerMetrics::new(&registry)?,
            slis: Slis::new()?,
            updates: counter(
                "kube_ipvs_service_updates_total",
                "How often the desired state of a Service changed",
            )?,
            repairs: counter(
                "kube_ipvs_drift_repairs_total",
                "Operations that repaired what other programs had changed in the kernel",
            )?,
            settings: counters(
                "kube_ipvs_setting_drift_total",
                "Kernel settings that other programs had changed, by setting and result of the repair",
                &["setting", "result"],
            )?,
            read_failures: counter(
                "kube_ipvs_kernel_read_failures_total",
                "Failed attempts to read the state of the kernel",
            )?,
            checks: checks(&registry)?,
            canary: CanaryMetrics::new(&registry)?,
            registry,
        })
    }

    pub fn event(&self, event: &Event, now: SystemTime) {
        self.kube_proxy.queued(now);
        let kind = match event {
            Event::Service(change) => {
                self.kube_proxy.services_changed(size(change));
                "service"
            }
            Event::Slice(change) => {
                self.kube_proxy.endpoints_changed(size(change));
                "slice"
            }
            Event::Node(_) => "node",
            Event::ServiceCidrs(_) => "service_cidr",
            Event::Addresses(_) => "addresses",
            Event::Routes(_) => "routes",
            Event::Links(_) => "links",
            // Found by the agent itself.
            Event::Listening(_) | Event::SourceIps(_) | Event::Ipv6(_) | Event::ApiServers(_) => {
                return;
            }
        };
        self.events.with_label_values(&[kind]).inc();
    }

    /// Counts applied operations and their outcomes, in the same order. A missing outcome counts as
    /// unknown.
    pub fn applied(&self, operations: &[Operation], outcomes: &[Outcome], took: Duration) {
        // Counts are small enough for a float.
        self.batch_operations.observe(operations.len() as f64);
        for (labels, count) in operations::counts(operations, outcomes) {
            self.operations.with_label_values(&labels).inc_by(count);
        }
        for family in operations::touched(operations) {
            self.kube_proxy.sync_took(family, took);
        }
    }

    /// Records that the kernel is up to date.
    pub fn settled(&self, totals: &Totals, now: SystemTime) {
        self.synced.set(1);
        self.kube_proxy.settled(totals, now);
        for (gauge, (.., total)) in self.totals.iter().zip(gauges(totals)) {
            set(gauge, total);
        }
    }

    /// Records the answer to a probe such as `livez`.
    pub(super) fn probed(&self, probe: &str, success: bool) {
        self.kube_proxy.probed(probe, success);
        self.slis.probed(probe, success);
    }

    /// Records the verdict of a check of the node.
    pub fn checked(&self, check: &str, verdict: CheckVerdict) {
        for other in CheckVerdict::ALL {
            let gauge = self.checks.with_label_values(&[check, other.name()]);
            set(&gauge, usize::from(other == verdict));
        }
    }

    /// Formats all metrics in the text format 0.0.4.
    ///
    /// # Errors
    ///
    /// If a metric has no samples, which does not happen with these metrics.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn build_info(registry: &Registry) -> prometheus::Result<()> {
    let opts = Opts::new("kube_ipvs_build_info", "Always 1; the label names the version");
    let build = register(registry, IntGaugeVec::new(opts, &["version"]))?;
    build.with_label_values(&[VERSION]).set(1);
    Ok(())
}

fn checks(registry: &Registry) -> prometheus::Result<IntGaugeVec> {
    let help = "1 for the verdict of a check of the node that doctor makes, too; none before its first run";
    let opts = Opts::new("kube_ipvs_check_status", help);
    let all = register(registry, IntGaugeVec::new(opts, &["check", "status"]))?;
    let verdicts = |check| CheckVerdict::ALL.map(|verdict| [check, verdict.name()]);
    Ok(with_series(all, doctor::names_in_agent().flat_map(verdicts)))
}

fn batch_operations(registry: &Registry) -> prometheus::Result<Histogram> {
    let help = "Operations in one batch to the kernel";
    let opts = HistogramOpts::new("kube_ipvs_batch_operations", help);
    register(registry, Histogram::with_opts(opts.buckets(exponential_buckets(1.0, 4.0, 9)?)))
}

fn size<K, T>(change: &Change<K, T>) -> usize {
    match change {
        Change::Apply(_) | Change::Delete(_) => 1,
        Change::Replace(all) => all.len(),
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> prometheus::Result<C> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Creates the series of a metric, so that they exist before they are counted.
fn with_series<B: MetricVecBuilder, const N: usize>(
    metric: MetricVec<B>,
    labels: impl IntoIterator<Item = [&'static str; N]>,
) -> MetricVec<B> {
    for labels in labels {
        metric.with_label_values(&labels);
    }
    metric
}

pub(super) fn set(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// In seconds since 1970, as Prometheus expects.
fn set_time(gauge: &Gauge, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge.set(since.as_secs_f64());
}

#[cfg(test)]
mod tests;
