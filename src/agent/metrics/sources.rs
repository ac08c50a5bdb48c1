//! What the reflectors of the API server do.

use std::time::SystemTime;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{register, set, set_time};
use crate::source::kubernetes::WatchStep;

pub(super) struct Sources {
    requests: IntCounterVec,
    connected: IntGaugeVec,
    last_events: GaugeVec,
}

impl Sources {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new(
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
        Ok(Self {
            requests: register(registry, IntCounterVec::new(requests, &["kind", "request"]))?,
            connected: register(registry, IntGaugeVec::new(connected, &["kind"]))?,
            last_events: register(registry, GaugeVec::new(last_events, &["kind"]))?,
        })
    }

    pub(super) fn add(&self, kind: &str, step: WatchStep, now: SystemTime) {
        let (request, is_connected) = match step {
            WatchStep::List => (Some("list"), true),
            WatchStep::Watch => (Some("watch"), true),
            WatchStep::Event => (None, true),
            WatchStep::Lost => (None, false),
            WatchStep::Failure => (Some("failure"), false),
        };
        if let Some(request) = request {
            self.requests.with_label_values(&[kind, request]).inc();
        }
        set(&self.connected.with_label_values(&[kind]), usize::from(is_connected));
        if matches!(step, WatchStep::List | WatchStep::Event) {
            set_time(&self.last_events.with_label_values(&[kind]), now);
        }
    }
}
