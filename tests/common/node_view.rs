//! A node's view of a cluster, for questions about connections.

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::explain::{Explanation, Verdict, explain};
use kube_ipvs_core::model::{DesiredService, Event, Settings};
use kube_ipvs_core::state::State;

use super::objects::{node, service_cidrs, service_key};

/// A pod on this node, a pod on another node, and a client outside the cluster.
pub const POD: &str = "10.244.1.200";
pub const REMOTE_POD: &str = "10.244.2.200";
pub const EXTERNAL_CLIENT: &str = "198.51.100.9";

#[derive(Debug)]
pub struct NodeView {
    state: State,
    desired: DesiredState,
}

impl NodeView {
    /// Returns node `n1` (192.0.2.1, 2001:db8::1) in zone `z1` with pods in 10.244.1.0/24 and
    /// fd00:10:244:1::/64, and service ranges 10.96.0.0/16 and fd00:10:96::/112.
    pub fn new() -> Self {
        Self::with(&Settings::for_node("n1"))
    }

    /// Returns the same with other settings.
    pub fn with(settings: &Settings) -> Self {
        let mut view = Self::empty(settings);
        view.apply(
            node("n1")
                .internal_ip("192.0.2.1")
                .internal_ip("2001:db8::1")
                .pod_cidr("10.244.1.0/24")
                .pod_cidr("fd00:10:244:1::/64")
                .zone("z1"),
        )
        .apply(service_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]));
        view
    }

    /// Returns a view without any events.
    pub fn empty(settings: &Settings) -> Self {
        Self { state: State::new(settings.node_name.clone()), desired: DesiredState::new(settings) }
    }

    pub fn apply(&mut self, event: impl Into<Event>) -> &mut Self {
        self.state.apply(event.into());
        self.desired.update(&mut self.state);
        self
    }

    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// Returns the desired state of a Service, which is empty for an unknown one.
    pub fn desired_service(&self, key: &str) -> DesiredService {
        self.desired.service(&service_key(key)).cloned().unwrap_or_default()
    }

    pub fn explain(&self, destination: &str, from: &str) -> Explanation {
        let destination = destination.parse().expect("destination");
        explain(&self.desired, destination, from.parse().expect("source"))
    }

    /// Returns a short answer: `reject`, `drop`, `pass`, or the backends of `forward`. A `~` before
    /// a backend means that the source is translated; draining backends follow `|`.
    pub fn answer(&self, destination: &str, from: &str) -> String {
        let answer = self.explain(destination, from);
        if answer.verdict != Verdict::Forward {
            assert!(answer.backends.is_empty() && answer.draining.is_empty(), "{answer:?}");
            return answer.verdict.to_string();
        }
        let mut words = Vec::new();
        for candidate in &answer.backends {
            let sign = if candidate.masquerade { "~" } else { "" };
            words.push(format!("{sign}{}", socket(&candidate.backend)));
        }
        if !answer.draining.is_empty() {
            words.push("|".to_owned());
            words.extend(answer.draining.iter().map(socket));
        }
        words.join(" ")
    }

    /// Checks answers: destination, source, expected answer.
    #[track_caller]
    pub fn expect(&self, cases: &[(&str, &str, &str)]) {
        for (destination, from, expected) in cases {
            assert_eq!(self.answer(destination, from), *expected, "{from} -> {destination}");
        }
    }
}

fn socket(backend: &kube_ipvs_core::model::Backend) -> String {
    std::net::SocketAddr::new(backend.address, backend.port).to_string()
}
