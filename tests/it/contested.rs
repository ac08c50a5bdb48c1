//! Many front ends of one Service, and many Services that ask for the same: a change costs what it
//! changes. What is counted is how many Services are looked at again, not time; a change whose work
//! grew with the square of these sizes would not end here.

use std::net::Ipv4Addr;

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{DesiredService, Event, RefusalReason, Settings};
use kube_ipvs_core::state::State;

use crate::common::objects::{ServiceBuilder, service, slice, without_service};

/// As many front ends as a Service may have.
const FRONT_ENDS: u32 = 16_384;

struct Cluster {
    state: State,
    desired: DesiredState,
}

impl Cluster {
    fn new() -> Self {
        let settings = Settings::for_node("n1");
        Self {
            state: State::new(settings.node_name.clone()),
            desired: DesiredState::new(&settings),
        }
    }

    /// Tells something. Returns how many Services were looked at and changed.
    fn deliver(&mut self, event: impl Into<Event>) -> usize {
        self.state.apply(event.into());
        let (_, replacements) = self.desired.update(&mut self.state);
        replacements.len()
    }

    fn desired_service(&self, name: &str) -> &DesiredService {
        let key = crate::common::objects::service_key(name);
        self.desired.service(&key).expect("a DesiredService")
    }
}

fn rival(index: u32, created: u32) -> ServiceBuilder {
    let cluster_ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 1).to_bits() + index);
    service(&format!("default/rival-{index:04}"))
        .cluster_ip(&cluster_ip.to_string())
        .port("", 80)
        .created(created.into())
}

fn with_external_ips(builder: ServiceBuilder, count: u32) -> Event {
    let first = Ipv4Addr::new(198, 18, 0, 0).to_bits();
    let ips = (0..count).map(|index| Ipv4Addr::from_bits(first + index).to_string());
    builder.spec("externalIPs", ips.collect::<Vec<_>>()).into()
}

fn taken(program: &DesiredService) -> usize {
    let is_taken = |reason| matches!(reason, RefusalReason::Taken(_));
    program.refusals.iter().filter(|refusal| is_taken(refusal.reason)).count()
}

#[test]
fn a_change_among_many_claimants_of_an_address_touches_two_services() {
    const RIVALS: u32 = 2_000;
    let mut cluster = Cluster::new();
    // Each is older than those before it, and has the address when it comes.
    for index in 0..RIVALS {
        let asks = rival(index, RIVALS - index).external_ip("198.18.0.1");
        assert!(cluster.deliver(asks) <= 2);
    }
    // The owner goes, and the next one has it.
    for index in (1..RIVALS).rev() {
        assert_eq!(taken(cluster.desired_service(&format!("default/rival-{:04}", index - 1))), 1);
        assert!(cluster.deliver(without_service(&format!("default/rival-{index:04}"))) <= 2);
        assert_eq!(taken(cluster.desired_service(&format!("default/rival-{:04}", index - 1))), 0);
    }
}

#[test]
fn a_change_among_claimants_of_many_front_ends_touches_two_services() {
    const RIVALS: u32 = 30;
    let mut cluster = Cluster::new();
    for index in 0..RIVALS {
        assert!(cluster.deliver(with_external_ips(rival(index, RIVALS - index), FRONT_ENDS)) <= 2);
    }
    let name = |index: u32| format!("default/rival-{index:04}");
    for index in (1..RIVALS).rev() {
        assert_eq!(taken(cluster.desired_service(&name(index - 1))), FRONT_ENDS as usize);
        assert!(cluster.deliver(without_service(&name(index))) <= 2);
        assert_eq!(taken(cluster.desired_service(&name(index - 1))), 0);
    }
}

#[test]
fn a_service_of_many_front_ends_is_changed_like_any_other() {
    let mut cluster = Cluster::new();
    for count in [FRONT_ENDS, FRONT_ENDS / 2, FRONT_ENDS] {
        assert_eq!(cluster.deliver(with_external_ips(rival(0, 0), count)), 1);
        assert_eq!(
            cluster.desired_service("default/rival-0000").frontends.len(),
            count as usize + 1
        );
    }
    for number in 1..=100 {
        let endpoints = slice("default/rival-0000-a").of("default/rival-0000").port("", 8080);
        assert_eq!(cluster.deliver(endpoints.ready(&format!("10.244.2.{number}"), "n2")), 1);
    }
}
