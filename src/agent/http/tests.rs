#![allow(clippy::unwrap_used)]

mod load;

use std::collections::BTreeMap;
use std::future::ready;
use std::io::{ErrorKind, Read, Write};
use std::iter::{self, repeat_n};
use std::mem::replace;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use hyper::body::Bytes;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::explain::{Explanation, explain_present};
use kube_ipvs_core::model::{
    Change, Event, Protocol, Service, ServiceKey, ServicePort, Settings, VirtualAddress,
};
use kube_ipvs_core::question::ConnectionQuestion;
use kube_ipvs_core::testing::{EmptyKernel, all_succeed};
use netlink_ipvs::KernelError;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::places::{MOST_OF_A_PEER, MOST_OF_OTHERS, Places};
use super::routes::respond;
use super::server::{Limits, serve};
use super::shared::MOST_ANSWERS;
use super::*;
use crate::agent::api::{
    self, ConnectionView, ConnectionsView, KernelReaders, StatusFilter, StatusQuestion,
};
use crate::agent::health::Health;
use crate::agent::metrics::Metrics;
use crate::client::{AgentClient, AgentError};

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A server that is silent for this long hangs.
const NEVER: Duration = Duration::from_secs(120);
/// Longer than any step here, and long enough for a request to arrive.
const SHORT: Duration = Duration::from_millis(500);
/// The size of a head that would take far longer than allowed, although it is not too large.
const TRICKLE: usize = 1200;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(TcpListener, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            block_on(async {
                let listener = bind(ANYWHERE).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, stopped).await;
            });
        });
        Self { address: address.recv().unwrap(), stop, thread }
    }

    fn client(&self) -> AgentClient {
        AgentClient::new(self.address)
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn health() -> Arc<Health> {
    Arc::new(Health::new(SystemTime::now(), Duration::from_secs(30)))
}

/// A kernel that refuses to be read.
const UNREADABLE: KernelReaders = KernelReaders {
    count: |_| Err(KernelError::NotPermitted("the counters")),
    busiest: |_| Err(KernelError::NotPermitted("the rates")),
    connections: |_, _| Err(KernelError::NotPermitted("the connections")),
};

fn metrics_server(health: &Arc<Health>, ask: impl Fn(Query) + Send + Sync + 'static) -> Server {
    metrics_server_of(health, UNREADABLE, ask)
}

fn metrics_server_of(
    health: &Arc<Health>,
    kernel: KernelReaders,
    ask: impl Fn(Query) + Send + Sync + 'static,
) -> Server {
    let routes = MetricsRoutes {
        health: Arc::clone(health),
        metrics: Arc::new(Metrics::new().unwrap()),
        traffic: Some(StatusFilter { limit: Some(10), ..StatusFilter::default() }),
        config: serde_json::json!({"kubeproxy.config.k8s.io": {"mode": "ipvs"}}),
        flags: [("node-name".to_owned(), "n1".to_owned())].into(),
        started: SystemTime::UNIX_EPOCH,
        kernel,
        ask: Box::new(ask),
    };
    Server::start(|listener, stopped| {
        serve_metrics(listener, routes, async {
            let _ = stopped.await;
        })
    })
}

fn answer_of_empty_engine(query: Query) {
    let engine = Engine::new(&Settings::for_node("n1"), None);
    match query {
        Query::Status { filter, busiest, reply } => {
            drop(reply.send(api::status(&engine, None, &filter, busiest.as_deref())));
        }
        Query::Traffic { filter, reply } => {
            let left_out = filter.limit.unwrap_or_default();
            drop(reply.send(api::ServiceTraffic { services: Vec::new(), left_out }));
        }
        Query::Names { addresses, reply } => drop(reply.send(api::names(&engine, &addresses))),
        Query::Explain { question, reply } => {
            let explain = |destination, from| explain_present(&engine, destination, from);
            drop(reply.send(api::explained(&question, engine.state(), explain)));
        }
    }
}

#[test]
fn probes_follow_health() {
    let health = health();
    let server = metrics_server(&health, answer_of_empty_engine);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(server.get("/healthz").starts_with("HTTP/1.1 503 "), "no Node yet");
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));

    health.set_eligible(Some(true));
    health.synced();
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200 "));
    let healthz = server.get("/healthz");
    assert!(healthz.starts_with("HTTP/1.1 200 "), "{healthz}");
    assert!(healthz.contains("content-type: application/json\r\n"), "{healthz}");
    assert!(healthz.contains("x-content-type-options: nosniff\r\n"), "{healthz}");
    assert!(healthz.contains(r#""nodeEligible":true,"healthy":true"#), "{healthz}");

    health.queued(Instant::now().checked_sub(Duration::from_secs(61)).unwrap());
    assert!(server.get("/livez").starts_with("HTTP/1.1 503 "));

    let metrics = server.get("/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\nkubeproxy_proxy_healthz_total{code=\"503\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\nkubeproxy_proxy_livez_total{code=\"503\"} 1\n"), "{metrics}");
}

#[test]
fn health_address_answers_probes_only() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let server = Server::start(|listener, stopped| {
        serve_health(listener, health(), metrics, async {
            let _ = stopped.await;
        })
    });
    let status = |path| match server.client().get(path) {
        Ok(_) => 200,
        Err(AgentError::Refused { status, .. }) => status,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(status("/livez"), 200);
    assert_eq!(status("/readyz"), 503);
    assert_eq!(status("/metrics"), 404);
    assert_eq!(status("/status"), 404);
    for line in ["GET /livez HTTP/1.1", "GET / HTTP/1.1", "POST / HTTP/1.1", "GET / HTTP/9.9"] {
        let answer = server.send(&format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let tells = [env!("CARGO_PKG_VERSION"), "server:"].map(|it| answer.contains(it));
        assert!(answer.starts_with("HTTP/1.1 ") && tells == [false; 2], "{line}: {answer}");
    }
}

#[test]
fn the_endpoints_of_kubernetes_components_are_there() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    assert!(server.get("/metrics/slis").starts_with("HTTP/1.1 200 "), "before any probe");
    server.get("/livez");
    server.get("/readyz");
    let slis = server.get("/metrics/slis");
    for line in [
        "kubernetes_healthcheck{name=\"sync\",type=\"livez\"} 1",
        "kubernetes_healthcheck{name=\"sync\",type=\"readyz\"} 0",
        "kubernetes_healthchecks_total{name=\"sync\",status=\"error\",type=\"readyz\"} 1",
    ] {
        assert!(slis.lines().any(|it| it == line), "{slis}");
    }
    let statusz = server.get("/statusz");
    assert!(
        statusz.contains("\nkube-ipvs statusz\nWarning: This endpoint is not meant"),
        "{statusz}"
    );
    for path in statusz.lines().find_map(|it| it.strip_prefix("Paths: ")).unwrap().split(' ') {
        assert!(!server.get(path).starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(statusz.contains(" /connections "), "{statusz}");
    assert!(statusz.contains("\nStarted: Thu Jan  1 00:00:00 UTC 1970\nUp: "), "{statusz}");
    assert!(server.get("/flagz").ends_with("\n\nnode-name=n1\n"));
    let accept = "application/json;v=v1beta1;g=config.k8s.io;as=Flagz";
    let flagz =
        format!("GET /flagz HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    let flagz = server.send(&flagz);
    let object = flagz.split("\r\n\r\n").last().unwrap();
    let expected = serde_json::json!({
        "kind": "Flagz",
        "apiVersion": "config.k8s.io/v1beta1",
        "metadata": {"name": "kube-ipvs"},
        "flags": {"node-name": "n1"},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(object).unwrap(), expected);
}

#[test]
fn facts_are_reported() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    assert!(server.get("/proxyMode").ends_with("\r\n\r\nipvs"));
    let config = server.get("/configz");
    assert!(config.ends_with(r#"{"kubeproxy.config.k8s.io":{"mode":"ipvs"}}"#), "{config}");

    let status = server.client().status(&StatusQuestion::default()).unwrap();
    assert_eq!((&*status.node, status.synced, status.last_sync), ("n1", false, None));

    let question = |destination: &str, from: &str| ConnectionQuestion {
        destination: destination.parse().unwrap(),
        from: from.parse().unwrap(),
        namespace: "a".to_owned(),
    };
    let explained = server.client().explain(&question("[fd00::a]:53/udp", "node")).unwrap();
    let [explained] = &explained[..] else { panic!("{explained:?}") };
    assert_eq!(explained.destination, "[fd00::a]:53/udp");
    assert_eq!((&*explained.from, &*explained.verdict), ("node", "pass"));
    let unnamed = ["10.0.0.9", "fd00::a"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(server.client().names(&unnamed).unwrap(), [].into());
    let unknown = server.client().explain(&question("svc/web", "node")).unwrap_err();
    assert!(unknown.to_string().contains("no Service a/web is served here"), "{unknown}");
}

#[test]
fn bad_requests_are_refused() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    assert!(server.get("/nothing").starts_with("HTTP/1.1 404 "));
    let bad = server.get("/explain?destination=10.0.0.1&from=node");
    assert!(bad.starts_with("HTTP/1.1 400 ") && bad.contains("10.0.0.1"), "{bad}");
    let bad = server.get("/names?address=10.0.0.1&address=me");
    assert!(bad.starts_with("HTTP/1.1 400 ") && bad.contains("\"me\""), "{bad}");
    let post = "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let post = server.send(post);
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let head = "HEAD /proxyMode HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let head = server.send(head);
    assert!(head.contains("content-length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_foreign_page_learns_no_clients_addresses() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let path = "/connections?namespace=a&name=web";
    let ask = |target: &str, host: &str| {
        server.send(&format!("GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n"))
    };
    // The name of the page's host leads to the loopback address by now.
    for host in ["foreign.example", "foreign.example:10249", "localhost.foreign.example", "", "@"] {
        let answer = ask(path, &format!("Host: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 4"), "{host}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 404"), "{host}: {answer}");
    }
    let absolute = ask(&format!("http://foreign.example{path}"), "Host: localhost\r\n");
    assert!(absolute.starts_with("HTTP/1.1 421 "), "{absolute}");
    for host in
        ["localhost", "LocalHost:10249", "127.0.0.1:10249", "[::1]:10249", "[::1]", "10.0.0.1"]
    {
        let answer = ask(path, &format!("Host: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 404 "), "{host}: {answer}");
    }
    assert!(ask(path, "").starts_with("HTTP/1.1 404 "), "no browser");
}

#[test]
fn endless_request_is_cut_off() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let mut stream = TcpStream::connect(server.address).unwrap();
    // More than all socket buffers on the path hold.
    assert!((0..16_384).any(|_| stream.write_all(&[b'a'; 4096]).is_err()));
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
}

/// Sends a request and returns the answer until the server closes the connection.
fn until_hung_up(mut stream: TcpStream, sent: &[u8]) -> String {
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let mut answer = Vec::new();
    // The server may close the connection before it has read everything.
    let ended = stream.write_all(sent).and_then(|()| stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let waits_on = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    assert!(!waits_on, "the server does not hang up; it said {answer:?}");
    answer
}

#[test]
fn oversized_heads_are_refused() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let connect = || TcpStream::connect(server.address).unwrap();
    let long = "a".repeat(20 << 10);
    let query = format!("GET /explain?destination={long} HTTP/1.1\r\nHost: a\r\n\r\n");
    let header = format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    let headers = "X: y\r\n".repeat(200);
    let headers = format!("GET /livez HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    for request in [query, header, headers] {
        let answer = until_hung_up(connect(), request.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // A query of allowed size is read and rejected with a reason; it is not echoed in full.
    let query = format!("/explain?destination={}&from=node", "a".repeat(8 << 10));
    assert!(server.get(&query).starts_with("HTTP/1.1 400 "));
}

#[test]
fn bodies_are_not_read() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let connect = || TcpStream::connect(server.address).unwrap();
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    let mut request = head.as_bytes().to_vec();
    request.extend([b'a'; 1000]);
    let answer = until_hung_up(connect(), &request);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Endless chunks.
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n";
    let answer = until_hung_up(connect(), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn engine_that_has_ended_is_unavailable() {
    let server = metrics_server(&health(), drop);
    for path in ["/status", "/explain?destination=10.0.0.1:1&from=node"] {
        let answer = server.get(path);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("stopping"), "{answer}");
    }
}

#[test]
fn connections_end_with_their_answer_and_idle_ones_on_stopping() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let mut idle = TcpStream::connect(server.address).unwrap();
    let answer = server.send("GET /proxyMode HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let client = server.client();
    server.stop.send(()).unwrap();
    server.thread.join().unwrap();
    idle.read_to_end(&mut Vec::new()).unwrap();
    let error = client.status(&StatusQuestion::default());
    assert!(matches!(error, Err(AgentError::Connect { .. })), "{error:?}");
}

#[test]
fn taken_address_is_named() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let error = block_on(bind(server.address)).unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.address)));
}

#[test]
fn the_page_may_do_nothing_but_ask_this_agent() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let page = server.get("/");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        assert!(head.lines().any(|it| it == line), "{line} is not in {head}");
    }
    let policy = head.lines().find_map(|it| it.strip_prefix("content-security-policy: ")).unwrap();
    for directive in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|it| it == directive), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(body.starts_with("<!DOCTYPE html>"), "{body}");
    let health = Server::start(|listener, stopped| {
        serve_health(listener, health(), Arc::new(Metrics::new().unwrap()), async {
            let _ = stopped.await;
        })
    });
    assert!(health.get("/").starts_with("HTTP/1.1 404 "), "the probes' address has no page");
}
