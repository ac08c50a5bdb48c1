//! Requests to the API server, under the names and labels of client-go
//! (`component-base/metrics/prometheus/restclient`).

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::register;
use crate::source::kubernetes::ApiRequest;

/// In seconds.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// The code of a request without an answer.
const NO_ANSWER: &str = "<error>";

pub(super) struct ApiRequests {
    total: IntCounterVec,
    duration: HistogramVec,
}

impl ApiRequests {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let total = Opts::new(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
        );
        let duration = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
        );
        let duration = duration.buckets(BUCKETS.into());
        Ok(Self {
            total: register(registry, IntCounterVec::new(total, &["code", "method", "host"]))?,
            duration: register(registry, HistogramVec::new(duration, &["verb", "host"]))?,
        })
    }

    pub(super) fn add(&self, request: &ApiRequest<'_>) {
        let ApiRequest { method, host, status, took } = request;
        let code = status.as_ref().map_or(NO_ANSWER, |status| status.as_str());
        self.total.with_label_values(&[code, method.as_str(), host]).inc();
        self.duration.with_label_values(&[method.as_str(), host]).observe(took.as_secs_f64());
    }
}
