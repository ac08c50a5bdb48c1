//! Who has what, whatever comes and goes: what listens on the node, its addresses, Services.

use std::collections::BTreeSet;

use kube_ipvs_core::desired::NodeContext;
use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{Event, RefusalReason, Settings, VirtualAddress};
use kube_ipvs_core::state::State;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::cases;
use crate::common::objects::{
    ServiceBuilder, addresses, listening, node, service, service_cidrs, without_service,
};

const NAMES: [&str; 4] = ["ns/a", "ns/b", "other/c", "other/d"];
const IPS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "203.0.113.1", "10.96.0.2"];
const PORTS: [u16; 3] = [22, 8080, 30080];

#[derive(Clone, Debug)]
struct Ask {
    name: usize,
    created: i64,
    external: Option<&'static str>,
    granted: Option<&'static str>,
    port: u16,
    node_port: Option<u16>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let ip = || proptest::option::of(select(&IPS[..]));
    let node_port = proptest::option::of(select(&PORTS[1..]));
    (0..NAMES.len(), 0..3_i64, ip(), ip(), select(&PORTS[..]), node_port).prop_map(
        |(name, created, external, granted, port, node_port)| Ask {
            name,
            created,
            external,
            granted,
            port,
            node_port,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let made = ask().prop_map(|ask| {
        let mut made: ServiceBuilder = service(NAMES[ask.name])
            .cluster_ip(&format!("10.96.0.{}", ask.name + 1))
            .created(ask.created)
            .port("", ask.port);
        made = ask.external.into_iter().fold(made, ServiceBuilder::external_ip);
        made = ask.granted.into_iter().fold(made, ServiceBuilder::load_balancer_ip);
        ask.node_port.into_iter().fold(made, ServiceBuilder::node_port).into()
    });
    let gone = select(&NAMES[..]).prop_map(without_service);
    let sockets = ["0.0.0.0:8080", "192.0.2.1:8080", "10.96.0.2:8080", "0.0.0.0:30080"];
    let sockets = proptest::sample::subsequence(sockets.to_vec(), 0..=4);
    let sockets = sockets.prop_map(|at| listening(&at));
    let ips = proptest::sample::subsequence(IPS.to_vec(), 0..=4).prop_map(|ips| addresses(&ips));
    prop_oneof![4 => made, 2 => gone, 2 => sockets, 1 => ips]
}

fn addresses_of(desired: &DesiredState) -> BTreeSet<VirtualAddress> {
    let asked = desired.services().flat_map(|(_, program)| {
        let refused = program.refusals.iter().map(|it| it.address);
        program.frontends.iter().map(|it| it.address).chain(refused)
    });
    let all = IPS.into_iter().chain(["0.0.0.0"]).flat_map(|ip| {
        PORTS.map(|port| format!("{ip}:{port}").parse::<VirtualAddress>().expect("address"))
    });
    asked.chain(all).collect()
}

/// Whether an address is one that ClusterIPs have, though a device may have it too.
fn is_clusters(around: &NodeContext, at: &VirtualAddress) -> bool {
    around.is_in_service_range(at.ip) && !around.node_ips.contains(&at.ip)
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// Only a Service that is there, and has asked, keeps others from a front end.
    #[test]
    fn each_owner_of_a_front_end_exists_and_requests_it(events in vec(event(), 1..30)) {
        let settings = Settings::for_node("n1");
        let mut state = State::new(settings.node_name.clone());
        let mut desired = DesiredState::new(&settings);
        state.apply(node("n1").internal_ip("192.0.2.1").into());
        state.apply(service_cidrs(&["10.96.0.0/16"]));
        for event in events {
            state.apply(event);
            desired.update(&mut state);
            for address in addresses_of(&desired) {
                let Some(owner) = desired.owner(&address) else { continue };
                let program = desired.service(owner);
                let wants = program.is_some_and(|program| {
                    program.frontend(&address).is_some()
                        || program.refusal(&address).is_some_and(|refusal| {
                            matches!(
                                refusal.reason,
                                RefusalReason::Taken(_) | RefusalReason::LocalSocket
                            )
                        })
                });
                prop_assert!(wants, "{owner} has {address}");
            }
            for (key, program) in desired.services() {
                for frontend in &*program.frontends {
                    prop_assert_eq!(desired.owner(&frontend.address), Some(key));
                }
                for refusal in &*program.refusals {
                    if let RefusalReason::Taken(at) = refusal.reason {
                        let owner = desired.owner(&at);
                        prop_assert!(owner.is_some_and(|it| it != key), "{refusal:?} of {key}");
                    }
                }
            }
            let around = desired.context();
            for (key, program) in desired.services() {
                for frontend in program.frontends.iter().filter(|it| it.kind.is_external()) {
                    let at = &frontend.address;
                    let is_protected = around.is_own(at.ip)
                        && around.need(at) == Some(RefusalReason::Protected);
                    prop_assert!(!is_protected && !is_clusters(around, at), "{key} has {at}");
                    let anywhere = at.at(at.family().unspecified());
                    let takes_node_ports = around.node_port_ips.contains(&at.ip);
                    let other = desired.owner(&anywhere).filter(|it| takes_node_ports && *it != key);
                    let other = other.and_then(|it| desired.service(it));
                    let rival = other.and_then(|it| it.frontend(&anywhere));
                    prop_assert_eq!(rival, None, "beside {} of {}", at, key);
                }
                for refusal in &*program.refusals {
                    let at = &refusal.address;
                    let is_so = match refusal.reason {
                        RefusalReason::Listened => around.is_own(at.ip) && around.is_listened_at(at),
                        RefusalReason::Protected => {
                            around.is_protected(at)
                                && (at.ip.is_unspecified() || around.is_own(at.ip))
                        }
                        RefusalReason::LocalSocket => around.is_local_socket(at),
                        RefusalReason::ServiceRange => is_clusters(around, at),
                        _ => true,
                    };
                    prop_assert!(is_so, "{refusal:?} of {key}");
                }
            }
        }
    }
}
