//! The metrics: under kube-proxy's names if it has them, otherwise with the prefix `kube_ipvs_`.

mod kube_proxy;
mod operations;
mod traffic;

use std::time::{Duration, SystemTime};

use kube_ipvs_core::engine::Totals;
use kube_ipvs_core::model::{Change, Event, Family};
use kube_ipvs_core::plan::{Operation, Outcome};
use kube_proxy::KubeProxy;
use operations::Operations;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector, exponential_buckets,
};

use crate::source::kubernetes::WatchRequest;

pub use traffic::encode as encode_traffic;

/// All metrics. There are no globals: every component gets a reference.
pub struct Metrics {
    registry: Registry,
    kube_proxy: KubeProxy,
    operations: Operations,
    batch_operations: Histogram,
    events: Events,
    totals: TotalGauges,
    failures: IntGauge,
    dirty: IntGauge,
    synced: IntGauge,
    event_writes: EventWrites,
    watch_requests: IntCounterVec,
    updates: IntCounter,
    repairs: IntCounter,
    settings: IntCounterVec,
    unobservable: IntCounter,
}

struct Events {
    services: IntCounter,
    slices: IntCounter,
    node: IntCounter,
    service_cidrs: IntCounter,
    addresses: IntCounter,
    routes: IntCounter,
    links: IntCounter,
}

struct EventWrites {
    published: IntCounter,
    dropped: IntCounter,
    refused: IntCounter,
}

struct TotalGauges {
    services: IntGauge,
    frontends: IntGauge,
    virtual_servers: IntGauge,
    real_servers: IntGauge,
    draining: IntGauge,
    refused_frontends: IntGauge,
}

impl Metrics {
    /// Returns metrics without any counts.
    ///
    /// # Errors
    ///
    /// Only if two metrics have the same name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = IntGaugeVec::new(
            Opts::new("kube_ipvs_build_info", "Always 1; the label names the version"),
            &["version"],
        )?;
        register(&registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let batch = HistogramOpts::new(
            "kube_ipvs_batch_operations",
            "Operations in one batch to the kernel",
        )
        .buckets(exponential_buckets(1.0, 4.0, 9)?);
        Ok(Self {
            kube_proxy: KubeProxy::new(&registry)?,
            operations: Operations::new(&registry)?,
            batch_operations: register(&registry, Histogram::with_opts(batch)?)?,
            events: Events::new(&registry)?,
            totals: TotalGauges::new(&registry)?,
            failures: gauge(
                &registry,
                "kube_ipvs_failed_operations",
                "Operations that failed and are retried",
            )?,
            dirty: gauge(
                &registry,
                "kube_ipvs_dirty_services",
                "Services whose change is not programmed yet",
            )?,
            synced: gauge(
                &registry,
                "kube_ipvs_synced",
                "1 once the first full sync is in the kernel",
            )?,
            event_writes: EventWrites::new(&registry)?,
            watch_requests: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "kube_ipvs_watch_requests_total",
                        "Lists, watches that continued from them, and failed requests to the API server",
                    ),
                    &["kind", "request"],
                )?,
            )?,
            updates: counter(
                &registry,
                "kube_ipvs_service_updates_total",
                "How often the desired state of a Service changed",
            )?,
            repairs: counter(
                &registry,
                "kube_ipvs_drift_repairs_total",
                "Operations that repaired what other programs had changed in the kernel",
            )?,
            settings: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "kube_ipvs_setting_drift_total",
                        "Kernel settings that other programs had changed, by setting and result of the repair",
                    ),
                    &["setting", "result"],
                )?,
            )?,
            unobservable: counter(
                &registry,
                "kube_ipvs_kernel_read_failures_total",
                "Failed attempts to read the state of the kernel",
            )?,
            registry,
        })
    }

    pub fn event(&self, event: &Event, now: SystemTime) {
        self.kube_proxy.queued(now);
        match event {
            Event::Service(change) => {
                self.events.services.inc();
                self.kube_proxy.service_changes.add(size(change));
            }
            Event::Slice(change) => {
                self.events.slices.inc();
                self.kube_proxy.endpoint_changes.add(size(change));
            }
            Event::Node(_) => self.events.node.inc(),
            Event::ServiceCidrs(_) => self.events.service_cidrs.inc(),
            Event::Addresses(_) => self.events.addresses.inc(),
            Event::Routes(_) => self.events.routes.inc(),
            Event::Links(_) => self.events.links.inc(),
            // Found by the agent itself.
            Event::Listening(_) | Event::SourceIps(_) | Event::Ipv6(_) | Event::ApiServers(_) => {}
        }
    }

    /// Counts applied operations and their outcomes, in the same order. A missing outcome counts as
    /// unknown.
    pub fn applied(&self, operations: &[Operation], outcomes: &[Outcome], took: Duration) {
        // Counts are small enough for a float.
        self.batch_operations.observe(operations.len() as f64);
        self.operations.add(operations, outcomes);
        for family in operations::touched(operations) {
            self.kube_proxy.sync_took(family, took);
        }
    }

    pub fn swept(&self, family: Family, deleted: usize, took: Duration) {
        self.kube_proxy.swept(family, deleted, took);
    }

    pub fn dirty(&self, services: usize) {
        set(&self.dirty, services);
    }

    pub fn failures(&self, count: usize) {
        set(&self.failures, count);
    }

    pub fn draining(&self, count: usize) {
        set(&self.totals.draining, count);
    }

    /// Records that the kernel is up to date.
    pub fn settled(&self, totals: &Totals, now: SystemTime) {
        self.synced.set(1);
        self.kube_proxy.settled(totals, now);
        set(&self.totals.services, totals.services);
        set(&self.totals.frontends, totals.frontends);
        set(&self.totals.virtual_servers, totals.pools);
        set(&self.totals.real_servers, totals.backends);
        set(&self.totals.refused_frontends, totals.refusals);
    }

    /// Observes the time from a change of endpoints to its presence in the kernel.
    pub fn programmed(&self, family: Family, after: Duration) {
        self.kube_proxy.programmed(family, after);
    }

    /// Counts a request to the API server for objects of a kind, or its failure.
    pub fn source(&self, kind: &str, request: WatchRequest) {
        let request = match request {
            WatchRequest::List => "list",
            WatchRequest::Watch => "watch",
            WatchRequest::Failure => "failure",
        };
        self.watch_requests.with_label_values(&[kind, request]).inc();
    }

    pub fn updated(&self, services: usize) {
        self.updates.inc_by(services as u64);
    }

    /// Counts operations that repaired drift.
    pub fn repaired(&self, operations: usize) {
        self.repairs.inc_by(operations as u64);
    }

    pub fn setting_put_right(&self, setting: &str) {
        self.settings.with_label_values(&[setting, "put_right"]).inc();
    }

    pub fn setting_refused(&self, setting: &str) {
        self.settings.with_label_values(&[setting, "refused"]).inc();
    }

    pub fn unobservable(&self) {
        self.unobservable.inc();
    }

    /// Counts an event that was written as an Event.
    pub fn event_published(&self) {
        self.event_writes.published.inc();
    }

    /// Counts an event that was not written because of the rate limit.
    pub fn event_dropped(&self) {
        self.event_writes.dropped.inc();
    }

    /// Counts an event that the API server rejected.
    pub fn event_refused(&self) {
        self.event_writes.refused.inc();
    }

    pub fn healthz(&self, success: bool) {
        self.kube_proxy.healthz.count(success);
    }

    pub fn livez(&self, success: bool) {
        self.kube_proxy.livez.count(success);
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

impl Events {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new("kube_ipvs_events_total", "Events of the sources, by kind of object");
        let all = register(registry, IntCounterVec::new(opts, &["kind"])?)?;
        let of = |kind| all.with_label_values(&[kind]);
        Ok(Self {
            services: of("service"),
            slices: of("slice"),
            node: of("node"),
            service_cidrs: of("service_cidr"),
            addresses: of("addresses"),
            routes: of("routes"),
            links: of("links"),
        })
    }
}

impl EventWrites {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new(
            "kube_ipvs_event_writes_total",
            "Reported events, by the result of writing them as Kubernetes Events",
        );
        let all = register(registry, IntCounterVec::new(opts, &["result"])?)?;
        let of = |result| all.with_label_values(&[result]);
        Ok(Self { published: of("published"), dropped: of("dropped"), refused: of("refused") })
    }
}

impl TotalGauges {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| gauge(registry, name, help);
        Ok(Self {
            services: gauge("kube_ipvs_services", "Services that are served")?,
            frontends: gauge("kube_ipvs_frontends", "Front ends of Services")?,
            virtual_servers: gauge("kube_ipvs_virtual_servers", "IPVS virtual servers")?,
            real_servers: gauge(
                "kube_ipvs_real_servers",
                "IPVS real servers of all virtual servers, including draining ones",
            )?,
            draining: gauge(
                "kube_ipvs_draining_real_servers",
                "IPVS real servers that are no longer desired and keep established connections",
            )?,
            refused_frontends: gauge(
                "kube_ipvs_refused_frontends",
                "Front ends that Services request but do not get",
            )?,
        })
    }
}

fn size<K, T>(change: &Change<K, T>) -> usize {
    match change {
        Change::Apply(_) | Change::Delete(_) => 1,
        Change::Replace(all) => all.len(),
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

fn set(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// In seconds since 1970, as Prometheus expects.
fn set_time(gauge: &Gauge, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge.set(since.as_secs_f64());
}

#[cfg(test)]
mod tests;
