//! Objects of as many bytes as they come with.

use std::time::Duration;

use serde_json::{Value, json};

use super::followed::Followed;
use crate::api::SERVICES;
use crate::api::objects::{service, slice};

/// Of an object, the same with a note of that many bytes.
fn with_note(mut object: Value, bytes: usize) -> Value {
    object["metadata"]["annotations"] = json!({ "note": "x".repeat(bytes) });
    object
}

#[test]
fn objects_of_a_megabyte_are_followed_like_others() {
    let server = super::server();
    server.put(with_note(service("web", "10.96.0.1"), 1 << 20));
    server.put(with_note(slice("web-1", "web", &["10.244.1.1"]), 1 << 20));
    let mut now = Followed::new(&server);
    now.until_synced();
    server.put(with_note(slice("web-1", "web", &["10.244.1.1", "10.244.1.2"]), 1 << 20));
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
    now.until("both endpoints are told", |now| {
        now.slices.values().map(|slice| slice.endpoints.len()).sum::<usize>() == 2
    });
}

#[test]
fn an_endless_event_is_given_up() {
    let server = super::server();
    server.put(service("web", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    server.put(with_note(service("endless", "10.96.0.9"), 40 << 20));
    now.settle(Duration::from_millis(500));
    assert_eq!(now.service_names(), ["web"]);
    // What is told of it is never read, but a new list is.
    server.delete(SERVICES, "default/endless");
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
}
