//! What an agent costs the API server: `docs/api-server.md` has the figures that are printed here.

#![allow(clippy::print_stdout)]

use serde_json::{Value, json};

use crate::api::{ApiServer, SLICES};
use crate::followed::Followed;
use crate::objects::{node, service, service_cidr, slice};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 10;
/// What a watch says beside an object, and what else a start takes.
const FRAME: usize = 40;

/// An object with what real ones carry beside what we read: owner, times, identity, and who set
/// which field.
fn real(mut object: Value) -> Value {
    object["metadata"]["uid"] = "3f2a9d5e-7b41-4c8f-9d0b-0c6e5a1b2c3d".into();
    object["metadata"]["creationTimestamp"] = "2026-11-21T10:00:00Z".into();
    object["metadata"]["generation"] = 3.into();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Service", "name": object["metadata"]["name"],
        "uid": "8a6f0c1e-2d3b-4e5f-8a9b-1c2d3e4f5a6b", "controller": true,
        "blockOwnerDeletion": true,
    }]);
    object["metadata"]["managedFields"] = json!([{
        "manager": "kube-controller-manager", "operation": "Update",
        "apiVersion": object["apiVersion"], "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
            "f:metadata": {
                "f:annotations": { ".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {} },
                "f:generateName": {},
                "f:labels": { ".": {}, "f:endpointslice.kubernetes.io/managed-by": {},
                              "f:kubernetes.io/service-name": {} },
                "f:ownerReferences": { ".": {}, "k:{\"uid\":\"8a6f0c1e\"}": {} },
            },
        },
    }]);
    object
}

fn real_slice(index: usize, endpoints: usize) -> Value {
    let addresses: Vec<_> =
        (0..endpoints).map(|n| format!("10.{}.{}.{n}", 128 + index / 256, index % 256)).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let mut slice = slice(&format!("s{index:04}-abcde"), &format!("s{index:04}"), &addresses);
    for (n, endpoint) in slice["endpoints"].as_array_mut().unwrap().iter_mut().enumerate() {
        endpoint["conditions"] = json!({ "ready": true, "serving": true, "terminating": false });
        endpoint["nodeName"] = format!("worker-{n:04}.example.internal").into();
        endpoint["zone"] = "eu-central-1a".into();
        endpoint["targetRef"] = json!({
            "kind": "Pod", "namespace": "default", "name": format!("s{index:04}-7c9d8f6b5-x{n:04}"),
            "uid": "0b1c2d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e",
        });
    }
    real(slice)
}

#[test]
fn a_start_costs_each_object_once_and_a_change_the_object() {
    let server = ApiServer::start();
    let mut objects = vec![node("node-1", "192.0.2.1"), service_cidr("kubernetes", "10.96.0.0/16")];
    for index in 0..SERVICES {
        let ip = format!("10.96.{}.{}", index / 250, index % 250 + 1);
        objects.push(real(service(&format!("s{index:04}"), &ip)));
        objects.push(real_slice(index, ENDPOINTS));
    }
    // The version that the server adds is counted too.
    let bytes = |object: &Value| object.to_string().len() + FRAME + FRAME;
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
        "start: {} requests, {started} bytes for {SERVICES} Services and as many slices of \
         {ENDPOINTS} endpoints",
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
    println!("change: no request, {change} bytes");
    assert_eq!(server.requests().len(), 4);
    assert!(change <= size, "{change} of {size} bytes");

    // Whoever comes back goes on from where it was, without a list.
    server.disconnect();
    server.put(real_slice(8, ENDPOINTS + 1));
    agent.until("the new endpoint", |now| {
        let grown = now.slices.values().filter(|slice| slice.endpoints.len() > ENDPOINTS);
        grown.count() == 2
    });
    let back = server.sent() - started - change;
    let again = server.requests().split_off(4);
    println!("reconnect: {} requests, {back} bytes with one change", again.len());
    assert!(again.iter().filter(|line| line.contains(SLICES)).count() == 1, "{again:#?}");
    assert!(again.iter().all(|line| !line.contains("sendInitialEvents")), "{again:#?}");
    assert!(back <= 2 * size, "{back} of {size} bytes");
}
