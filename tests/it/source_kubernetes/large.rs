//! Objects and lists of as many parts as they come with.

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{Change, Event, Settings};
use kube_ipvs_core::state::State;
use serde_json::json;

use super::followed::Followed;
use crate::api::objects::{service, slice};
use crate::api::{ApiServer, SERVICES};

const ENDPOINTS: usize = 1_000;
const PORTS: u16 = 100;

#[test]
fn a_slice_may_have_a_thousand_endpoints_and_a_hundred_ports() {
    let addresses: Vec<_> =
        (0..ENDPOINTS).map(|at| format!("10.244.{}.{}", at / 250, at % 250 + 1)).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let mut wide = slice("web-1", "web", &addresses);
    let mut web = service("web", "10.96.0.1");
    let port = |at: u16| json!({ "name": format!("p{at}"), "protocol": "TCP", "port": 1000 + at });
    let ports: Vec<_> = (0..PORTS).map(port).collect();
    wide["ports"] = json!(ports);
    web["spec"]["ports"] = json!(ports);

    let server = ApiServer::start();
    server.put(web);
    server.put(wide);
    let mut now = Followed::new(&server);
    now.until_synced();
    let mut state = State::new("node-1".into());
    for service in now.services.into_values() {
        state.apply(Event::Service(Change::Apply(service)));
    }
    for slice in now.slices.into_values() {
        state.apply(Event::Slice(Change::Apply(slice)));
    }
    let mut desired = DesiredState::new(&Settings::for_node("node-1"));
    desired.update(&mut state);
    let totals = desired.totals();
    assert_eq!(totals.pools, usize::from(PORTS));
    assert_eq!(totals.backends, ENDPOINTS * usize::from(PORTS));
}

#[test]
fn a_new_list_may_hold_fifty_thousand_objects() {
    const OBJECTS: usize = 50_000;
    let server = ApiServer::start();
    server.put(service("first", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    server.set_outage(true);
    for at in 0..OBJECTS {
        server.put(service(&format!("s{at}"), &format!("10.97.{}.{}", at / 256, at % 256)));
    }
    server.delete(SERVICES, "default/first");
    server.compact();
    server.set_outage(false);
    now.until("all are told", |now| now.services.len() == OBJECTS);
    assert!(!now.service_names().contains(&"first"));
}
