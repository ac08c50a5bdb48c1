#![allow(clippy::unwrap_used)]

use std::future::ready;
use std::io::{ErrorKind, Read, Write};
use std::iter::{self, repeat_n};
use std::mem::replace;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use hyper::body::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::places::{MOST_OF_A_PEER, MOST_OF_OTHERS, SharedPlaces};
use super::routes::respond;
use super::server::{Limits, serve};
use super::shared::MOST_ANSWERS;
use super::*;
use crate::agent::answer;
use crate::agent::client::{Client, ClientError};
use crate::agent::health::Health;
use crate::agent::metrics::Metrics;
use crate::engine::{Engine, Work};
use crate::explain::{Source, explain};
use crate::model::{Change, Event, Protocol, Service, ServiceKey, ServicePort, Settings};
use crate::plan::Observed;

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A server that is silent for so long does not mean to do anything any more.
const NEVER: Duration = Duration::from_secs(120);
/// A time that nothing takes here, and long enough for what is asked to arrive.
const SHORT: Duration = Duration::from_millis(500);
/// Bytes of a head that would take far longer than it may, though it is not too large.
const TRICKLE: usize = 1200;

/// A server on a thread of its own.
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
        let (told, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            block_on(async {
                let listener = bind(ANYWHERE).await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, stopped).await;
            });
        });
        Self { address: address.recv().unwrap(), stop, thread }
    }

    fn client(&self) -> Client {
        Client::new(self.address)
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

fn metrics_server(health: &Arc<Health>, ask: impl Fn(Query) + Send + Sync + 'static) -> Server {
    let routes = MetricsRoutes {
        health: Arc::clone(health),
        metrics: Arc::new(Metrics::new().unwrap()),
        traffic_services: 10,
        config: watch::channel(serde_json::json!({"kubeproxy.config.k8s.io": {"mode": "ipvs"}})).1,
        ask,
    };
    Server::start(|listener, stopped| {
        serve_metrics(listener, routes, async {
            let _ = stopped.await;
        })
    })
}

/// Answers for an engine that knows nothing.
fn answer_of_empty_engine(query: Query) {
    let engine = Engine::new(&Settings::for_node("n1"), None);
    match query {
        Query::Status(reply) => drop(reply.send(answer::status(&engine, None))),
        Query::Traffic { services, reply } => {
            drop(reply.send(answer::Traffic { services: Vec::new(), left_out: services }));
        }
        Query::Explain { destination, from, reply } => {
            drop(reply.send(explain(engine.programs(), destination, from)));
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
        Err(ClientError::Refused { status, .. }) => status,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(status("/livez"), 200);
    assert_eq!(status("/readyz"), 503);
    assert_eq!(status("/metrics"), 404);
    assert_eq!(status("/status"), 404);

    let asked =
        |line: &str| server.send(&format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n"));
    let told = [
        ("GET /livez HTTP/1.1", "200"),
        ("GET /healthz HTTP/1.1", "503"),
        ("GET /version HTTP/1.1", "404"),
        ("POST /livez HTTP/1.1", "405"),
        ("GET /livez HTTP/9.9", "400"),
    ];
    for (line, status) in told {
        let answer = asked(line).to_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{line}: {answer}");
        for version in [env!("CARGO_PKG_VERSION"), "server:", "kube-ipvs"] {
            assert!(!answer.contains(version), "{line}: {answer}");
        }
    }
}

#[test]
fn facts_are_told() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    assert!(server.get("/proxyMode").ends_with("\r\n\r\nipvs"));
    let config = server.get("/configz");
    assert!(config.ends_with(r#"{"kubeproxy.config.k8s.io":{"mode":"ipvs"}}"#), "{config}");

    let status = server.client().status().unwrap();
    assert_eq!((&*status.node, status.synced, status.last_sync), ("n1", false, None));

    let destination = "[fd00::a]:53/udp".parse().unwrap();
    let explained = server.client().explain(destination, Source::Node).unwrap();
    assert_eq!(explained.destination, "[fd00::a]:53/udp");
    assert_eq!((&*explained.from, &*explained.verdict), ("node", "pass"));
}

#[test]
fn bad_requests_are_refused() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    assert!(server.get("/").starts_with("HTTP/1.1 404 "));
    let bad = server.get("/explain?destination=10.0.0.1&from=node");
    assert!(bad.starts_with("HTTP/1.1 400 ") && bad.contains("10.0.0.1"), "{bad}");
    let post = "POST /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let post = server.send(post);
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
    let head = "HEAD /proxyMode HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let head = server.send(head);
    assert!(head.contains("content-length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn endless_request_is_cut_off() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let mut stream = TcpStream::connect(server.address).unwrap();
    // More than all socket buffers on the way hold.
    assert!((0..16_384).any(|_| stream.write_all(&[b'a'; 4096]).is_err()));
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
}

/// What the server says to this, until it hangs up: it has to, by itself.
fn until_hung_up(mut stream: TcpStream, sent: &[u8]) -> String {
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let mut answer = Vec::new();
    // It may hang up before it has all.
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
    // What fits is read, and told with its reason; it is not echoed in full length by accident.
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
    // Chunks without end.
    let head = "GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n";
    let answer = until_hung_up(connect(), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A connection to a server from an address of this machine: from another one than the server's it
/// is somebody else's than the node's own.
fn connect_from(last: u8, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

fn is_over(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = stream.read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn who_holds_on_to_connections_keeps_nobody_from_an_answer() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let from = |last| connect_from(last, server.address);
    let small = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let asked = |stream| assert!(until_hung_up(stream, small).starts_with("HTTP/1.1 200 "));
    for begun in ["", "GET /livez HT"] {
        // 264 connections: of others, of one that has most of them, and of the node itself.
        let peers = (2..42).cycle().take(200).chain([50; 64]).chain([1; 64]);
        let mut held: Vec<_> = peers.map(from).collect();
        for stream in &mut held {
            // It may have been cut off already.
            let _ = stream.write_all(begun.as_bytes());
        }
        // The kubelet, a load balancer, and one that has most connections already.
        [1, 99, 50].into_iter().for_each(|last| asked(from(last)));
        // None of them had to wait for others to be given up.
        let open = held.iter().filter(|stream| !is_over(stream)).count();
        assert!(open > MOST_OF_OTHERS / 2, "{open} of {} are open", held.len());
        assert!(open <= MOST_OF_OTHERS + MOST_OF_A_PEER, "{open} are open");
        // Of one peer no more than it may have, of the others none because of it.
        let open = |held: &[TcpStream]| held.iter().filter(|stream| !is_over(stream)).count();
        assert!(open(&held[200..264]) <= MOST_OF_A_PEER);
        assert!(open(&held[264..]) <= MOST_OF_A_PEER);
    }
}

#[test]
fn many_ports_have_no_more_connections_than_one() {
    let places = SharedPlaces::default();
    let start = || {
        let places = places.clone();
        Server::start(|listener, stopped| {
            serve_health_check(listener, places, || None, async {
                let _ = stopped.await;
            })
        })
    };
    let servers: Vec<_> = (0..8).map(|_| start()).collect();
    let connect = |server: &Server| -> Vec<_> {
        (2..42).chain([1; 20]).map(|last| connect_from(last, server.address)).collect()
    };
    let held: Vec<_> = servers.iter().flat_map(connect).collect();
    for server in &servers {
        assert!(server.get("/").starts_with("HTTP/1.1 404 "));
    }
    let open = held.iter().filter(|stream| !is_over(stream)).count();
    assert!(open <= MOST_OF_OTHERS + MOST_OF_A_PEER, "{open} are open");
}

#[test]
fn a_question_of_a_client_that_has_gone_is_known_as_such() {
    let (questions, asked) = mpsc::channel();
    let server = metrics_server(&health(), move |query| questions.send(query).unwrap());
    for path in ["/explain?destination=10.96.0.1:80&from=node", "/status", "/metrics"] {
        let mut client = connect_from(1, server.address);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let query: Query = asked.recv().unwrap();
        assert!(!query.is_abandoned(), "{path}");
        drop(client);
        while !query.is_abandoned() {
            thread::sleep(SHORT / 100);
        }
    }
}

#[test]
fn small_requests_on_many_connections_keep_nobody_from_an_answer() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let small = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let peers = || (2..42).cycle().take(264);
    let mut held: Vec<_> = peers().map(|last| connect_from(last, server.address)).collect();
    for _ in 0..3 {
        for stream in &mut held {
            let _ = stream.write_all(small);
        }
        assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
        // A connection ends with its answer: to go on, all of them have to come again.
        for (stream, last) in held.iter_mut().zip(peers()) {
            let ended = replace(stream, connect_from(last, server.address));
            let _ = until_hung_up(ended, b"");
        }
    }
}

#[test]
fn slow_heads_and_slow_readers_are_cut_off() {
    let large = Bytes::from(vec![b'a'; 64 << 20]);
    let limits = Limits { head: SHORT, connection: 2 * SHORT };
    let server = Server::start(move |listener, stopped| async move {
        let answer = move |_| ready(respond(StatusCode::OK, "text/plain", large.clone()));
        serve(listener, SharedPlaces::default(), limits, answer, async {
            let _ = stopped.await;
        })
        .await;
    });
    let connect = || TcpStream::connect(server.address).unwrap();
    let drips = |mut stream: TcpStream, head: Vec<u8>| {
        head.into_iter().any(|byte| {
            thread::sleep(SHORT / 20);
            stream.write_all(&[byte]).is_err()
        })
    };
    let head = b"GET / HTTP/1.1\r\nX: ".iter().chain(repeat_n(&b'a', TRICKLE)).copied();
    assert!(drips(connect(), head.collect()), "the slow one was let finish {TRICKLE} bytes");
    assert_eq!(until_hung_up(connect(), b""), "");

    // It reads on, but slowly.
    let mut slow = connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let read = iter::from_fn(|| {
        thread::sleep(SHORT / 10);
        slow.read(&mut [0; 1024]).ok().filter(|read| *read > 0)
    });
    let read: usize = read.take(40).sum();
    let rest = slow.read_to_end(&mut Vec::new()).unwrap_or_default();
    assert!(read + rest < 64 << 20, "the slow one was let read all of it");
}

#[test]
fn a_large_answer_is_made_once_for_all_who_ask_for_it() {
    const CLIENTS: usize = 12;
    let (asked, questions) = mpsc::channel();
    let server = metrics_server(&health(), move |query| asked.send(query).unwrap());
    let client = server.client();
    let statuses: Vec<_> =
        (0..CLIENTS).map(|_| thread::spawn(move || client.status().map(drop))).collect();
    // The engine's thread is busy until all have come.
    let first = questions.recv().unwrap();
    thread::sleep(SHORT);
    answer_of_empty_engine(first);
    let more = iter::from_fn(|| questions.recv_timeout(2 * SHORT).ok());
    let more = more.map(answer_of_empty_engine).count();
    statuses.into_iter().for_each(|status| status.join().unwrap().unwrap());
    // Those who came while as many as there may be were being made share the next.
    assert!(more <= MOST_ANSWERS, "made {more} times more");
}

#[test]
fn answers_under_way_are_bounded() {
    let engine = Arc::new(Mutex::new(large_engine()));
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let server = metrics_server(&health(), move |query| {
        let Query::Status(reply) = query else { return };
        counted.fetch_add(1, Ordering::Relaxed);
        drop(reply.send(answer::status(&engine.lock().unwrap(), None)));
    });
    // They read only so much that they know that it has begun.
    let begin = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream
    };
    let mut reading: Vec<_> = (0..MOST_ANSWERS).map(begin).collect();
    let crowded = server.get("/status");
    assert!(crowded.starts_with("HTTP/1.1 503 ") && crowded.contains("ask again"), "{crowded}");
    assert_eq!(made.load(Ordering::Relaxed), MOST_ANSWERS);
    assert!(server.get("/livez").starts_with("HTTP/1.1 200 "));
    // Once one has ended, there is room.
    drop(reading.pop());
    server.client().status().unwrap();
}

/// An engine of which the status is larger than what sockets hold.
fn large_engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let service = |index: u16| {
        let [high, low] = index.to_be_bytes();
        let ports = (1..=10).map(|port| ServicePort {
            name: format!("port-{port}").into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        });
        Service {
            cluster_ips: [[10, 96, high, low].into()].into(),
            ports: ports.collect(),
            ..Service::named(ServiceKey::new("default", &format!("web-{index}")))
        }
    };
    engine.handle_event(Event::Service(Change::Replace((0..8000).map(service).collect())));
    engine.handle_event(Event::Slice(Change::Replace(Vec::new())));
    engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
    engine.handle_event(Event::Node(None));
    while let Some(work) = engine.poll_work(Instant::now()) {
        match work {
            Work::Observe => drop(engine.handle_observed(Observed::default(), Instant::now())),
            Work::Apply(plan) => {
                let outcomes = plan.operations().iter().map(|_| Ok(())).collect();
                engine.handle_outcomes(&plan, outcomes, Instant::now());
            }
            Work::ObservePools(_) | Work::Count(_) | Work::Listen => {}
        }
    }
    engine
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
    let error = client.status();
    assert!(matches!(error, Err(ClientError::Connect { .. })), "{error:?}");
}

#[test]
fn taken_address_is_named() {
    let server = metrics_server(&health(), answer_of_empty_engine);
    let error = block_on(bind(server.address)).unwrap_err();
    assert_eq!(error.address, server.address);
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.address)));
}
