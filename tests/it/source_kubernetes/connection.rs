//! Ways to the server.

use std::fs;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube_ipvs::source::kubernetes::{
    ApiAccess, ConnectError, ObserveRequest, Server, connect, connect_observed, follow,
    follow_server, service_ranges,
};
use kube_ipvs_core::model::{Event, Settings};

use super::followed::{Followed, quick};
use crate::api::objects::{service, service_cidr};
use crate::api::{ApiServer, Offer, SERVICES};

pub(crate) fn error_of(reach: &ApiAccess) -> ConnectError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(connect(reach)).err().unwrap()
}

#[test]
fn a_kubeconfig_leads_there_by_tls_with_its_token() {
    let server = ApiServer::start_tls();
    server.put(service("web", "10.96.0.1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, server.kubeconfig()).unwrap();
    let reach = ApiAccess { kubeconfig: Some(path.clone()), master: None };
    let mut now = Followed::reaching(reach, quick());
    now.until_services(&["web"]);

    // Without the token nothing is told.
    fs::write(&path, server.kubeconfig().replace("stand-in\"}", "other\"}")).unwrap();
    let reach = ApiAccess { kubeconfig: Some(path), master: None };
    let mut now = Followed::reaching(reach, quick());
    now.settle(Duration::from_millis(300));
    assert_eq!(now.lists, [0; 3]);
}

#[test]
fn a_certificate_of_another_authority_is_not_trusted() {
    let (server, other) = (ApiServer::start_tls(), ApiServer::start_tls());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, other.kubeconfig()).unwrap();
    let reach = ApiAccess { kubeconfig: Some(path), master: Some(server.url()) };
    let mut now = Followed::reaching(reach, quick());
    now.settle(Duration::from_millis(500));
    assert!(server.requests().is_empty());
}

#[test]
fn the_master_flag_overrides_the_kubeconfig() {
    let (server, nobody) = (ApiServer::start(), ApiServer::start());
    server.put(service("web", "10.96.0.1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, nobody.kubeconfig()).unwrap();
    let reach = ApiAccess { kubeconfig: Some(path), master: Some(server.url()) };
    Followed::reaching(reach, quick()).until_services(&["web"]);
    assert!(nobody.requests().is_empty());
}

#[test]
fn an_unusable_kubeconfig_is_reported_at_once() {
    let missing = ApiAccess { kubeconfig: Some("/nonexistent/kubeconfig".into()), master: None };
    assert!(error_of(&missing).to_string().contains("/nonexistent/kubeconfig"));
    let url = ApiAccess { kubeconfig: None, master: Some("not a url".to_owned()) };
    assert!(matches!(error_of(&url), ConnectError::Master { .. }));
    assert!(matches!(error_of(&ApiAccess::default()), ConnectError::InCluster(_)));
}

#[test]
fn an_api_server_behind_a_service_is_not_followed() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.1"));
    server.put(service_cidr("kubernetes", "127.0.0.0/8"));
    let reach = ApiAccess { kubeconfig: None, master: Some(server.url()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = std::cell::RefCell::new(Vec::new());
    let ended = runtime.block_on(async {
        let found = Server::find(&reach).await.unwrap();
        assert_eq!(found.check(&[]), Ok(()));
        let clients = connect(&reach).await.unwrap();
        let deliver = |event| {
            told.borrow_mut().push(event);
            ControlFlow::Continue(())
        };
        follow(&found, clients, &Settings::for_node("node-1"), quick(), deliver, |_, _| {}).await
    });
    let refusal = ended.unwrap_err().to_string();
    let expected = "at 127.0.0.1, which lies in the service range 127.0.0.0/8";
    assert!(refusal.contains(expected), "{refusal}");
    assert!(!told.borrow().iter().any(|event| matches!(event, Event::ServiceCidrs(_))));
}

#[test]
fn a_changed_server_address_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let server = ApiServer::start();
    let move_to = |ip: &str| {
        let text = server.kubeconfig().replace(&server.url(), &format!("https://{ip}:6443"));
        assert!(text.contains(ip), "{text}");
        fs::write(&path, text).unwrap();
    };
    move_to("192.0.2.1");
    let reach = ApiAccess { kubeconfig: Some(path.clone()), master: None };
    let moves = std::cell::RefCell::new(vec!["192.0.2.3", "192.0.2.2"]);
    let told = std::cell::RefCell::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = Server::find(&reach).await.unwrap();
        move_to(moves.borrow_mut().pop().unwrap());
        let deliver = |event| {
            let Event::ApiServers(servers) = event else { panic!("{event:?}") };
            let ips: Vec<_> = servers.iter().map(|server| server.ip().to_string()).collect();
            told.borrow_mut().push(ips.join(" "));
            let Some(ip) = moves.borrow_mut().pop() else { return ControlFlow::Break(()) };
            move_to(ip);
            ControlFlow::Continue(())
        };
        follow_server(&reach, &first, Duration::from_millis(1), deliver).await;
    });
    assert_eq!(told.into_inner(), ["192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2 192.0.2.3"]);
}

#[test]
fn service_ranges_are_looked_up() {
    let server = ApiServer::start();
    server.put(service("kubernetes", "10.96.0.1"));
    server.put(service("web", "10.96.0.2"));
    server.put(service_cidr("more", "10.97.0.0/16"));
    let reach = ApiAccess { kubeconfig: None, master: Some(server.url()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let look_up = || {
        runtime.block_on(async { service_ranges(connect(&reach).await.unwrap().current()).await })
    };
    assert_eq!(look_up(), ["10.97.0.0/16", "10.96.0.1/32"].map(|it| it.parse().unwrap()));
    server.set_outage(true);
    assert!(look_up().is_empty());
}

#[test]
fn requests_are_observed_with_what_became_of_them() {
    let server = ApiServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let observed = |url: String| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let observe: ObserveRequest = Arc::new(move |request| {
            let status = request.status.map(|status| status.as_u16());
            let request = (request.method.to_string(), request.host.to_owned(), status);
            into.lock().unwrap().push(request);
        });
        let reach = ApiAccess { kubeconfig: None, master: Some(url) };
        runtime.block_on(async {
            let clients = connect_observed(&reach, &observe).await.unwrap();
            service_ranges(clients.current()).await
        });
        let seen = seen.lock().unwrap();
        seen.clone()
    };
    let host = server.url().replace("http://", "");
    let answered = ("GET".to_owned(), host, Some(200));
    assert_eq!(observed(server.url()), [answered.clone(), answered]);
    // Nothing listens there.
    let lost = ("GET".to_owned(), "127.0.0.1:1".to_owned(), None);
    assert_eq!(observed("http://user:secret@127.0.0.1:1".to_owned()), [lost.clone(), lost]);
}

#[test]
fn a_server_without_protobuf_is_asked_for_json() {
    let server = ApiServer::start();
    server.set_offer(Offer::JsonAlone);
    server.put(service("web", "10.96.0.1"));
    let mut now = Followed::new(&server);
    now.until_synced();
    server.put(service("api", "10.96.0.2"));
    now.until_services(&["api", "web"]);
    assert_eq!(now.lists, [1; 3]);
}

#[test]
fn another_server_is_asked_when_one_is_gone() {
    let (first, second) = (ApiServer::start(), ApiServer::start());
    // They have the same data.
    let put = |name, ip| [&first, &second].map(|server| server.put(service(name, ip)));
    put("web", "10.96.0.1");
    let master = Some(format!("{}, {}", first.url(), second.url()));
    let mut now = Followed::reaching(ApiAccess { kubeconfig: None, master }, quick());
    now.until_synced();
    now.until_services(&["web"]);
    assert!(second.requests().is_empty());

    first.set_outage(true);
    put("late", "10.96.0.2");
    now.until_services(&["late", "web"]);

    // One that says that it is not ready is as good as gone.
    first.set_outage(false);
    second.refuse(SERVICES, 503);
    second.disconnect();
    put("back", "10.96.0.3");
    now.until_services(&["back", "late", "web"]);
}
