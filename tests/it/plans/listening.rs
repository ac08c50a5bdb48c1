//! When it is asked what listens on the node, and that what was first keeps a port.

use std::time::Duration;

use kube_ipvs_core::engine::Work;
use kube_ipvs_core::model::{Element, RefusalReason, Settings, VirtualAddress};

use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::ModelKernel;
use crate::common::objects::{
    ServiceBuilder, addresses, node, only_services, only_slices, service, service_cidrs,
    service_key, slice, without_service,
};

const AT: &str = "192.0.2.1:80";

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("", 80).external_ip("192.0.2.1")
}

/// An agent that starts on a kernel, in a cluster with one Service.
fn started(kernel: ModelKernel) -> ModelAgent {
    started_with(kernel, vec![web()])
}

fn started_with(kernel: ModelKernel, services: Vec<ServiceBuilder>) -> ModelAgent {
    let mut agent = ModelAgent::new(&Settings::for_node("n1"), kernel);
    tell_all(&mut agent, services);
    agent.settle().unwrap();
    agent
}

fn tell_all(agent: &mut ModelAgent, services: Vec<ServiceBuilder>) {
    agent
        .deliver(node("n1").internal_ip("192.0.2.1"))
        .deliver(service_cidrs(&["10.96.0.0/16"]))
        .deliver(only_services(services))
        .deliver(only_slices([slice("default/web-a").port("", 8080).ready("10.244.2.5", "n2")]));
}

fn listening(at: &str) -> ModelKernel {
    ModelKernel { listening: vec![at.parse().unwrap()], ..ModelKernel::default() }
}

fn is_served(agent: &ModelAgent) -> bool {
    let at: VirtualAddress = AT.parse().unwrap();
    let program = agent.engine.desired().service(&service_key("default/web")).unwrap();
    let leads = |element: &Element| element.lead().is_some_and(|(frontend, _)| frontend == at);
    let is_held = agent.kernel.state.elements.iter().any(leads);
    let refusal = program.refusal(&at).map(|refusal| refusal.reason);
    assert_eq!(refusal, (!is_held).then_some(RefusalReason::Listened));
    is_held
}

/// How often it is asked what listens, until there is nothing to do.
fn questions(agent: &mut ModelAgent) -> usize {
    let works = std::iter::from_fn(|| agent.step());
    works.filter(|work| matches!(work, Work::Listen)).count()
}

#[test]
fn the_first_owner_keeps_a_port_over_a_restart() {
    assert!(!is_served(&started(listening("0.0.0.0:80"))));
    let mut agent = started(ModelKernel::default());
    assert!(is_served(&agent));
    agent.kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    assert!(is_served(&started(agent.kernel.clone())));
    // The Service gives it up while the agent is away, and asks again.
    agent.deliver(only_services([service("default/web").cluster_ip("10.96.0.10").port("", 80)]));
    agent.settle().unwrap();
    agent.deliver(web()).settle().unwrap();
    assert!(!is_served(&agent));
}

#[test]
fn sockets_are_listed_only_for_new_front_ends_of_the_node() {
    let mut agent = started(listening("0.0.0.0:80"));
    let mut asks = |event: kube_ipvs_core::model::Event| questions(agent.deliver(event));
    let endpoints = slice("default/web-a").port("", 8080);
    assert_eq!(asks(endpoints.ready("10.244.2.6", "n2").into()), 0);
    assert_eq!(asks(web().created(7).into()), 0);
    let other = service("default/other").cluster_ip("10.96.0.11").port("", 81);
    assert_eq!(asks(other.clone().into()), 0);
    assert_eq!(asks(other.clone().external_ip("203.0.113.1").into()), 0);
    assert_eq!(asks(other.clone().external_ip("192.0.2.1").into()), 1);
    assert_eq!(asks(other.external_ip("192.0.2.1").created(9).into()), 0);
    assert!(!is_served(&agent));
    // What was asked for one is known for the others.
    agent.kernel.listening.clear();
    let third = service("default/third").cluster_ip("10.96.0.12").port("", 82);
    assert_eq!(questions(agent.deliver(third.external_ip("192.0.2.1"))), 1);
    assert!(is_served(&agent));
}

#[test]
fn after_a_restart_a_port_is_kept_by_the_service_that_had_it() {
    let mut agent = started(ModelKernel::default());
    assert!(is_served(&agent));
    agent.kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    // An older one asks for it as well, and does not get it.
    let older = || {
        let asks = service("default/older").cluster_ip("10.96.0.11").port("", 80).created(-1);
        asks.external_ip("192.0.2.1")
    };
    agent.deliver(older()).settle().unwrap();
    assert!(is_served(&agent));
    // Neither does it after a restart, whether or not the other one is still there.
    for services in [vec![web(), older()], vec![older()]] {
        let is_there = services.len() == 2;
        let again = started_with(agent.kernel.clone(), services);
        let at = AT.parse().unwrap();
        let owner = again.engine.desired().owner(&at).map(ToString::to_string);
        assert_eq!(owner.as_deref(), is_there.then_some("default/web"));
    }
}

#[test]
fn an_external_ip_that_became_the_nodes_without_an_agent_is_checked() {
    let asks =
        |ip: &str| service("default/web").cluster_ip("10.96.0.10").port("", 80).external_ip(ip);
    let agent = started_with(ModelKernel::default(), vec![asks("192.0.2.7")]);
    let mut kernel = agent.kernel;
    kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
    let mut again = ModelAgent::new(&Settings::for_node("n1"), kernel);
    again.deliver(addresses(&["192.0.2.1", "192.0.2.7"]));
    tell_all(&mut again, vec![asks("192.0.2.7")]);
    again.settle().unwrap();
    let program = again.engine.desired().service(&service_key("default/web")).unwrap();
    let refusal = program.refusal(&"192.0.2.7:80".parse().unwrap()).map(|refusal| refusal.reason);
    assert_eq!(refusal, Some(RefusalReason::Listened));
}

#[test]
fn an_inherited_front_end_is_checked_for_listening_processes() {
    for (listens, expected) in [(true, Some(RefusalReason::Listened)), (false, None)] {
        let heir = service("default/heir").cluster_ip("10.96.0.11").port("", 80).created(9);
        let services = vec![web(), heir.external_ip("192.0.2.1")];
        let mut agent = started_with(ModelKernel::default(), services);
        if listens {
            agent.kernel.listening = vec!["0.0.0.0:80".parse().unwrap()];
        }
        agent.deliver(without_service("default/web")).settle().unwrap();
        let heir = agent.engine.desired().service(&service_key("default/heir")).unwrap();
        let refusal = heir.refusal(&AT.parse().unwrap()).map(|refusal| refusal.reason);
        assert_eq!(refusal, expected);
    }
}

#[test]
fn sockets_are_listed_every_two_seconds_while_a_device_has_a_cluster_ip() {
    let mut agent = started(ModelKernel::default());
    let mut asked = |own: &[&str]| {
        questions(agent.deliver(addresses(own)));
        let work = agent.run_for(Duration::from_secs(10));
        work.iter().filter(|(_, work)| matches!(work, Work::Listen)).count()
    };
    assert_eq!(asked(&["192.0.2.1"]), 0);
    // Of a range of ClusterIPs, and no Service's.
    assert_eq!(asked(&["192.0.2.1", "10.96.0.77"]), 0);
    let often = asked(&["192.0.2.1", "10.96.0.10"]);
    assert!((4..=5).contains(&often), "{often} times");
    assert_eq!(asked(&["192.0.2.1"]), 0);
}
