//! What the agent asks of the API server. Requests have the names and labels of client-go
//! (`component-base/metrics/prometheus/restclient`).

use std::time::SystemTime;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::{register, set, set_time};
use crate::source::kubernetes::{ApiRequest, WatchStep};

/// In seconds.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The code of a request without an answer.
const NO_ANSWER: &str = "<error>";

pub struct ApiServerMetrics {
    watch_requests: IntCounterVec,
    connected: IntGaugeVec,
    last_events: GaugeVec,
    requests: IntCounterVec,
    duration: HistogramVec,
}

impl ApiServerMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let watch_requests = Opts::new(
            "kube_ipvs_watch_requests_total",
            "Lists, watches that continued from them, and failed requests to the API server",
        );
        let connected = Opts::new(
            "kube_ipvs_source_connected",
            "1 while objects of a kind are followed, 0 once the API server is lost",
        );
        let last_events = Opts::new(
            "kube_ipvs_source_last_event_timestamp_seconds",
            "Time of the last list, event or bookmark of objects of a kind",
        );
        let requests = Opts::new(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
        );
        let duration = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
        );
        let watch_requests = IntCounterVec::new(watch_requests, &["kind", "request"]);
        let requests = IntCounterVec::new(requests, &["code", "method", "host"]);
        let duration = HistogramVec::new(duration.buckets(BUCKETS.into()), &["verb", "host"]);
        Ok(Self {
            watch_requests: register(registry, watch_requests)?,
            connected: register(registry, IntGaugeVec::new(connected, &["kind"]))?,
            last_events: register(registry, GaugeVec::new(last_events, &["kind"]))?,
            requests: register(registry, requests)?,
            duration: register(registry, duration)?,
        })
    }

    /// Records what a reflector has done for objects of a kind.
    pub fn watched(&self, kind: &str, step: WatchStep, now: SystemTime) {
        let (request, is_connected) = match step {
            WatchStep::List => (Some("list"), true),
            WatchStep::Watch => (Some("watch"), true),
            WatchStep::Event => (None, true),
            WatchStep::Lost => (None, false),
            WatchStep::Failure => (Some("failure"), false),
        };
        if let Some(request) = request {
            self.watch_requests.with_label_values(&[kind, request]).inc();
        }
        set(&self.connected.with_label_values(&[kind]), usize::from(is_connected));
        if matches!(step, WatchStep::List | WatchStep::Event) {
            set_time(&self.last_events.with_label_values(&[kind]), now);
        }
    }

    /// Records a request to the API server.
    pub fn requested(&self, request: &ApiRequest<'_>) {
        let ApiRequest { method, host, status, took } = request;
        let code = status.as_ref().map_or(NO_ANSWER, |status| status.as_str());
        self.requests.with_label_values(&[code, method.as_str(), host]).inc();
        self.duration.with_label_values(&[method.as_str(), host]).observe(took.as_secs_f64());
    }
}
