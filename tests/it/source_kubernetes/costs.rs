//! What an agent costs the API server: `docs/api-server.md` has the figures that are printed here.

#![allow(clippy::print_stdout)]

use serde_json::Value;

use super::followed::Followed;
use crate::api::objects::{node, service, service_cidr};
use crate::api::protobuf::fields::of_collection;
use crate::api::protobuf::object;
use crate::api::real::{real, real_slice};
use crate::api::{ApiServer, NODES, Offer, SERVICE_CIDRS, SERVICES as ALL_SERVICES, SLICES};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
/// What a watch says beside an object, and what else a start takes.
const FRAME: usize = 40;

/// Bytes of a start, of a change, and of coming back with one change.
fn costs(offer: Offer, size_of: impl Fn(&Value) -> usize) -> [usize; 3] {
    let server = ApiServer::start();
    server.set_offer(offer);
    let mut objects = vec![node("node-1", "192.0.2.1"), service_cidr("kubernetes", "10.96.0.0/16")];
    for index in 0..SERVICES {
        let ip = format!("10.96.{}.{}", index / 250, index % 250 + 1);
        objects.push(real(service(&format!("s{index:04}"), &ip)));
        objects.push(real_slice(index, ENDPOINTS));
    }
    // The version that the server adds is counted too.
    let bytes = |object: &Value| size_of(object) + FRAME + FRAME;
    let size: usize = objects.iter().map(bytes).sum();
    for object in objects {
        server.put(object);
    }

    let mut agent = Followed::new(&server);
    agent.until_synced();
    agent.until("all slices", |now| now.slices.len() == SERVICES);
    let started = server.sent();
    let requests = server.requests();
    println!(
        "{offer:?}: start: {} requests, {started} bytes for {SERVICES} Services and as many slices \
         of {ENDPOINTS} endpoints",
        requests.len()
    );
    // One for each kind of object, which goes on as a watch.
    assert_eq!(requests.len(), 4, "{requests:#?}");
    assert!(started <= size, "{started} of {size} bytes");

    let changed = real_slice(7, ENDPOINTS + 1);
    let size = bytes(&changed);
    server.put(changed);
    agent.until("the new endpoint", |now| {
        now.slices.values().any(|slice| slice.endpoints.len() > ENDPOINTS)
    });
    let change = server.sent() - started;
    println!("{offer:?}: change: no request, {change} bytes");
    assert_eq!(server.requests().len(), 4);
    assert!(change <= size, "{change} of {size} bytes");

    // A watch that is begun again goes on without a list.
    server.disconnect();
    server.put(real_slice(8, ENDPOINTS + 1));
    agent.until("the new endpoint", |now| {
        let grown = now.slices.values().filter(|slice| slice.endpoints.len() > ENDPOINTS);
        grown.count() == 2
    });
    let back = server.sent() - started - change;
    let again = server.requests().split_off(4);
    println!("{offer:?}: reconnect: {} requests, {back} bytes with one change", again.len());
    assert!(again.iter().filter(|line| line.contains(SLICES)).count() == 1, "{again:#?}");
    assert!(again.iter().all(|line| !line.contains("sendInitialEvents")), "{again:#?}");
    assert!(back <= 2 * size, "{back} of {size} bytes");
    [started, change, back]
}

#[test]
fn a_start_costs_each_object_once_and_a_change_the_object() {
    let json = costs(Offer::Json, |value| value.to_string().len());
    let protobuf = costs(Offer::Both, |value| {
        let kind = value["kind"].as_str().unwrap().to_lowercase();
        let of = [NODES, SERVICE_CIDRS, ALL_SERVICES, SLICES]
            .into_iter()
            .find(|path| path.ends_with(&format!("/{kind}s")))
            .and_then(of_collection);
        object(of.unwrap(), value).len()
    });
    for (protobuf, json) in protobuf.into_iter().zip(json) {
        assert!(4 * protobuf < 3 * json, "{protobuf} beside {json} bytes");
    }
}
