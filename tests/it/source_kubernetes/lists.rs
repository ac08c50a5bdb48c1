//! Complete lists, by either way, and lists that break off.

use std::time::Duration;

use kube_ipvs::source::kubernetes::{self, ApiAccess, ListOnceError, Timeouts};
use kube_ipvs_core::model::{Event, Settings};
use kube_ipvs_core::state::State;

use super::followed::{Followed, quick};
use crate::api::objects::service;
use crate::api::{ApiServer, SERVICES, StreamingLists};

const WAYS: [StreamingLists; 2] = [StreamingLists::Served, StreamingLists::Refused];

fn server_with(services: usize, streaming: StreamingLists) -> ApiServer {
    let server = super::server();
    server.set_streaming_lists(streaming);
    for number in 0..services {
        let ip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
        server.put(service(&format!("s{number:04}"), &ip));
    }
    server
}

fn plain_lists(server: &ApiServer) -> Vec<String> {
    let mut requests = server.requests();
    requests.retain(|line| line.contains(SERVICES) && !line.contains("watch=true"));
    requests
}

#[test]
fn a_server_without_streaming_lists_is_asked_for_plain_ones_from_its_cache() {
    let server = server_with(3, StreamingLists::Refused);
    let mut now = Followed::new(&server);
    now.until_synced();
    assert_eq!(now.services.len(), 3);
    let lists = plain_lists(&server);
    assert_eq!(lists.len(), 1);
    assert!(lists[0].contains("resourceVersion=0"), "{lists:?}");
    assert!(lists[0].contains("resourceVersionMatch=NotOlderThan"), "{lists:?}");
    assert!(!lists[0].contains("limit"), "{lists:?}");
    server.put(service("web", "10.97.0.1"));
    now.until("the new one is told", |now| now.services.len() == 4);

    // It is not asked again what it has refused once.
    server.fail_watches(410, "too old");
    now.until("a new list comes", |now| now.lists[0] == 2);
    let streamed = server.requests();
    let streamed = streamed
        .iter()
        .filter(|line| line.contains(SERVICES) && line.contains("sendInitialEvents=true"));
    assert_eq!(streamed.count(), 1);
}

#[test]
fn a_server_that_ignores_streaming_lists_is_recognised() {
    let patience = || Timeouts { silence_in_list: Duration::from_millis(200), ..quick() };
    let server = server_with(3, StreamingLists::Unknown);
    let mut now = Followed::with(&server, patience());
    now.until_synced();
    assert_eq!(now.services.len(), 3);
    assert_eq!(plain_lists(&server).len(), 1);

    // A bookmark tells sooner.
    let server = server_with(3, StreamingLists::Unknown);
    let mut now = Followed::with(&server, quick());
    while server.watches(SERVICES) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.bookmark();
    now.until("the Services are listed", |now| now.services.len() == 3);
}

#[test]
fn an_incomplete_list_is_discarded() {
    for streaming in WAYS {
        for bytes in [0, 1, 20, 300, 1_000, 2_500] {
            let server = server_with(8, streaming);
            if streaming == StreamingLists::Refused {
                // The first answer is the refusal.
                server.cut_next(SERVICES, usize::MAX);
            }
            server.cut_next(SERVICES, bytes);
            let mut now = Followed::new(&server);
            now.until("the Services are listed", |now| now.lists[0] > 0);
            assert_eq!(now.services.len(), 8, "{streaming:?}, {bytes} bytes");
        }
    }
}

#[test]
fn a_new_list_deletes_missing_objects() {
    for streaming in WAYS {
        let server = server_with(5, streaming);
        let mut now = Followed::new(&server);
        now.until_synced();
        server.set_outage(true);
        server.delete(SERVICES, "default/s0002");
        server.delete(SERVICES, "default/s0004");
        server.put(service("new", "10.97.0.1"));
        server.compact();
        server.set_outage(false);
        now.until_services(&["new", "s0000", "s0001", "s0003"]);
        assert_eq!(now.lists[0], 2, "by a list, for the changes are forgotten");
    }
}

#[test]
fn a_new_list_is_not_older_than_known_objects() {
    let server = server_with(2, StreamingLists::Refused);
    let mut now = Followed::new(&server);
    now.until_synced();
    let seen = server.put(service("web", "10.97.0.1"));
    now.until("it is told", |now| now.services.len() == 3);
    server.fail_watches(410, "too old");
    now.until("a new list comes", |now| now.lists[0] == 2);
    let lists = plain_lists(&server);
    assert!(lists[1].contains(&format!("resourceVersion={seen}")), "{lists:?}");
}

#[test]
fn a_server_restored_from_a_backup_is_listed_page_by_page() {
    for streaming in WAYS {
        let server = server_with(1_100, streaming);
        // Nothing is told to those who have seen later versions, not even bookmarks.
        let patience = Timeouts { silence: Duration::from_secs(1), ..quick() };
        let mut now = Followed::with(&server, patience);
        now.until_synced();
        server.set_outage(true);
        server.restore_version(500);
        server.delete(SERVICES, "default/s0000");
        server.set_outage(false);
        now.until("the list is the present one", |now| now.services.len() == 1_099);
        if streaming == StreamingLists::Refused {
            let lists = plain_lists(&server);
            // A page that is long in coming is asked for again, so there may be more.
            let pages = lists.iter().filter(|line| line.contains("limit=500"));
            assert!(pages.count() >= 3, "{lists:?}");
        }
        server.put(service("web", "10.97.0.1"));
        now.until("it is followed", |now| now.services.len() == 1_100);
    }
}

/// What a command gets that does not follow changes.
fn once(server: &ApiServer, within: Duration) -> Result<Vec<Event>, ListOnceError> {
    let access = ApiAccess { kubeconfig: None, master: Some(server.url()) };
    let settings = Settings::for_node("node-1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(kubernetes::list(&access, &settings, quick(), within))
}

#[test]
fn one_list_of_each_kind_is_enough_for_a_command() {
    for way in WAYS {
        let server = server_with(3, way);
        let mut state = State::new("node-1".into());
        let events = once(&server, Duration::from_secs(60)).unwrap();
        events.into_iter().for_each(|event| state.apply(event));
        assert!(state.is_synced());
        assert_eq!(state.service_keys().count(), 3);
        assert!(state.api_servers().next().is_some(), "the API server's address is known");
        server.set_outage(true);
        let error = once(&server, Duration::from_millis(200)).unwrap_err().to_string();
        assert!(error.contains("Node, ServiceCIDR, Service, EndpointSlice"), "{error}");
    }
}
