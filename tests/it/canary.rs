//! The Service of the agent's own, over which it probes its data path.

use kube_ipvs_core::canary::path;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::explain::{Source, explain_present};
use kube_ipvs_core::model::{Carry, Event, Family, LocalDetector, Settings};

use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::ModelKernel;
use crate::common::objects::{
    ServiceBuilder, SliceBuilder, only_services, only_slices, service, service_cidrs, slice,
};

fn web() -> (ServiceBuilder, SliceBuilder) {
    let web = service("default/web").cluster_ip("10.96.0.10").port("http", 80);
    (web, slice("default/web-1").port("http", 8080).ready("10.244.2.3", "n2"))
}

fn settings() -> Settings {
    Settings { canary: true, ..Settings::for_node("n1") }
}

/// An agent that has programmed one Service.
fn agent(settings: &Settings, kernel: ModelKernel) -> ModelAgent {
    let mut agent = ModelAgent::new(settings, kernel);
    let (web, slice) = web();
    agent.deliver(only_services([web])).deliver(only_slices([slice]));
    agent.deliver(service_cidrs(&[])).deliver(Event::Node(None));
    agent.settle().unwrap();
    agent
}

/// The endpoints that the canary's client reaches.
fn reached(engine: &Engine, family: Family) -> Vec<String> {
    let way = path(family);
    let explained = explain_present(engine, way.front_end, Source::Address(way.client));
    explained.backends.iter().map(|it| it.backend.socket().to_string()).collect()
}

#[test]
fn the_canary_is_served_like_a_service_and_counts_as_none() {
    for carry in [Carry::FrontEnds, Carry::All] {
        let mut agent = agent(&Settings { carry, ..settings() }, ModelKernel::default());
        for _ in 0..2 {
            for family in Family::BOTH {
                let endpoint = path(family).endpoint.to_string();
                assert_eq!(reached(&agent.engine, family), [endpoint]);
            }
            let totals = agent.engine.desired().totals();
            assert_eq!((totals.services, totals.frontends, totals.pools), (1, 1, 1));
            // Another list, without the canary, does not remove it.
            let (web, slice) = web();
            agent.deliver(only_services([web])).deliver(only_slices([slice]));
            assert_eq!(agent.settle(), Ok(Vec::new()));
        }
    }
}

#[test]
fn the_canary_is_a_pod_and_goes_with_its_option() {
    let ranges = vec!["10.244.0.0/16".parse().unwrap()];
    let local_detector = LocalDetector::ClusterCidr(ranges);
    for masquerade_all in [false, true] {
        let settings =
            Settings { local_detector: local_detector.clone(), masquerade_all, ..settings() };
        let with = agent(&settings, ModelKernel::default());
        let pods = &with.engine.desired().node().pods;
        for family in Family::BOTH {
            let client = path(family).client;
            assert!(pods.iter().any(|range| range.contains(&client)), "{client} in {pods:?}");
        }
        let settings = Settings { canary: false, ..settings };
        let without = agent(&settings, with.kernel);
        let fresh = agent(&settings, ModelKernel::default());
        assert_eq!(without.kernel.state, fresh.kernel.state);
    }
}
