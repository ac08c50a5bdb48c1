//! A node's view of a cluster, to be asked where connections go.

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::explain::{Explanation, Verdict, explain};
use kube_ipvs_core::model::{DesiredService, Event, Settings};
use kube_ipvs_core::state::State;

use super::objects::{node, service_cidrs, service_key};

/// An address of a pod on this node, of one on another, and of somebody outside the cluster.
pub const POD: &str = "10.244.1.200";
pub const REMOTE_POD: &str = "10.244.2.200";
pub const OUTSIDER: &str = "198.51.100.9";

#[derive(Debug)]
pub struct World {
    state: State,
    programs: DesiredState,
}

impl World {
    /// Node `n1` (192.0.2.1, 2001:db8::1) in zone `z1` with pods in 10.244.1.0/24 and
    /// fd00:10:244:1::/64; ClusterIPs come from 10.96.0.0/16 and fd00:10:96::/112.
    pub fn new() -> Self {
        Self::with(&Settings::for_node("n1"))
    }

    /// The same with other settings.
    pub fn with(settings: &Settings) -> Self {
        let mut world = Self::empty(settings);
        world
            .apply(
                node("n1")
                    .internal_ip("192.0.2.1")
                    .internal_ip("2001:db8::1")
                    .pod_cidr("10.244.1.0/24")
                    .pod_cidr("fd00:10:244:1::/64")
                    .zone("z1"),
            )
            .apply(service_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]));
        world
    }

    /// Nothing told yet.
    pub fn empty(settings: &Settings) -> Self {
        Self {
            state: State::new(settings.node_name.clone()),
            programs: DesiredState::new(settings),
        }
    }

    pub fn apply(&mut self, event: impl Into<Event>) -> &mut Self {
        self.state.apply(event.into());
        self.programs.update(&mut self.state);
        self
    }

    pub fn desired(&self) -> &DesiredState {
        &self.programs
    }

    /// The DesiredService of a Service; an empty one if there is none.
    pub fn program(&self, key: &str) -> DesiredService {
        self.programs.service(&service_key(key)).cloned().unwrap_or_default()
    }

    pub fn explain(&self, destination: &str, from: &str) -> Explanation {
        let destination = destination.parse().expect("destination");
        explain(&self.programs, destination, from.parse().expect("source"))
    }

    /// The answer in short: `reject`, `drop`, `pass`, or the backends of `forward`. A `~` before a
    /// backend says that the source is translated on the way to it; draining ones follow `|`.
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

    /// Checks answers: destination, source, expected.
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
