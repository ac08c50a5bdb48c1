//! EventRecorder become Events of the API server.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs::agent::events::{
    EventReason, EventRecorder, EventWriter, InvolvedObject, QUIET, ReportedEvent,
};
use kube_ipvs::agent::metrics::Metrics;
use kube_ipvs::source::kubernetes::{ApiAccess, connect};
use kube_ipvs_core::model::ServiceKey;
use serde_json::Value;

use crate::api::objects::service;
use crate::api::{ApiServer, EVENTS};

/// A machine that is busy with other things may be slow.
const PATIENT: Duration = Duration::from_secs(20);

/// What writes Events for one node.
struct Node {
    notices: EventRecorder,
    metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

impl Node {
    fn new(name: &'static str, server: &ApiServer) -> Self {
        Self::telling(name, server, QUIET)
    }

    /// That tells the same again after so long.
    fn telling(name: &'static str, server: &ApiServer, quiet: Duration) -> Self {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (notices, queue) = EventRecorder::new(Arc::clone(&metrics));
        let reach = ApiAccess { kubeconfig: None, master: Some(server.url()) };
        let counted = Arc::clone(&metrics);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let clients = connect(&reach).await.unwrap();
                EventWriter::new(clients, name.into(), counted, quiet).run(queue).await;
            });
        });
        Self { notices, metrics, thread }
    }

    fn tell(&self, about: InvolvedObject, reason: EventReason, message: &str) -> &Self {
        self.notices.report(ReportedEvent { about, reason, message: message.to_owned() });
        self
    }

    /// Waits until that many notices have come to that end.
    #[track_caller]
    fn until(&self, result: &str, count: usize) {
        let line = format!("kube_ipvs_event_writes_total{{result=\"{result}\"}} {count}");
        let deadline = Instant::now() + PATIENT;
        while !self.metrics.encode().unwrap().lines().any(|it| it == line) {
            assert!(Instant::now() < deadline, "never: {line}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the sender of notices.
    fn end(self) {
        drop(self.notices);
        self.thread.join().unwrap();
    }
}

fn web() -> InvolvedObject {
    InvolvedObject::Service(ServiceKey::new("default", "web"))
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.pointer(field).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_notice_is_an_event_that_describe_finds() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    let node = Node::new("n1", &server);
    node.tell(web(), EventReason::AddressOfNode, "not served at 192.0.2.1");
    node.tell(InvolvedObject::Node, EventReason::KernelRejected, "the kernel refuses");
    node.until("published", 2);
    let events = server.objects(EVENTS);
    let event = events.iter().find(|it| text(it, "/regarding/kind") == "Service").unwrap();
    for (field, expected) in [
        ("/metadata/namespace", "default"),
        ("/regarding/apiVersion", "v1"),
        ("/regarding/name", "web"),
        ("/regarding/uid", "uid-default/web"),
        ("/type", "Warning"),
        ("/reason", "AddressOfNode"),
        ("/action", "Serve"),
        ("/note", "node n1: not served at 192.0.2.1"),
        ("/reportingController", "kube-ipvs"),
        ("/reportingInstance", "n1"),
    ] {
        assert_eq!(text(event, field), expected, "{field} of {event}");
    }
    assert!(!text(event, "/eventTime").is_empty());
    let event = events.iter().find(|it| text(it, "/regarding/kind") == "Node").unwrap();
    assert_eq!(text(event, "/regarding/uid"), "n1");
    assert_eq!(text(event, "/note"), "the kernel refuses");
    node.end();
}

#[test]
fn an_event_for_all_nodes_is_written_once() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    for name in ["n1", "n2", "n1"] {
        let node = Node::new(name, &server);
        node.tell(web(), EventReason::AddressTaken, "already has it");
        node.tell(web(), EventReason::AddressOfNode, "is a node's");
        node.until("published", 2);
        node.end();
    }
    let events = server.objects(EVENTS);
    let of = |reason| events.iter().filter(|it| text(it, "/reason") == reason).count();
    assert_eq!((of("AddressTaken"), of("AddressOfNode")), (1, 2));
}

#[test]
fn an_agent_without_the_right_to_write_events_goes_on() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    server.refuse("/apis/events.k8s.io/v1/namespaces/default/events", 403);
    let node = Node::new("n1", &server);
    node.tell(web(), EventReason::AddressTaken, "already has it");
    node.until("refused", 1);
    server.refuse("/apis/events.k8s.io/v1/namespaces/default/events", 200);
    node.tell(web(), EventReason::AddressOfNode, "is a node's");
    node.until("published", 1);
    node.end();
}

#[test]
fn a_repeated_event_is_counted() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    let node = Node::telling("n1", &server, Duration::ZERO);
    for told in 1..=3 {
        node.tell(web(), EventReason::AddressTaken, "already has it");
        node.until("published", told);
    }
    let [event] = &server.objects(EVENTS)[..] else { panic!("one Event") };
    assert_eq!(event["series"]["count"], 3);
    assert!(!text(event, "/series/lastObservedTime").is_empty());

    // The server forgets Events.
    server.delete(EVENTS, &format!("default/{}", text(event, "/metadata/name")));
    node.tell(web(), EventReason::AddressTaken, "already has it");
    node.until("published", 4);
    let [event] = &server.objects(EVENTS)[..] else { panic!("one Event") };
    assert_eq!(event["series"]["count"], 4);
    node.end();
}

#[test]
fn a_service_that_is_gone_gets_no_event() {
    let server = ApiServer::start();
    server.put(service("web", "10.96.0.10"));
    let node = Node::new("n1", &server);
    let gone = InvolvedObject::Service(ServiceKey::new("default", "gone"));
    node.tell(gone, EventReason::AddressTaken, "already has it");
    node.tell(web(), EventReason::AddressTaken, "already has it");
    node.until("published", 1);
    assert_eq!(server.objects(EVENTS).len(), 1);
    node.end();
}
