//! `kubectl ipvs`, through an API server that forwards ports to agents.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs::agent::api::{
    ConnectionsView, KernelReaders, ServiceView, StatusView, TrafficView, explained, names, status,
};
use kube_ipvs::agent::health::Health;
use kube_ipvs::agent::http::{MetricsRoutes, Query, bind, serve_metrics};
use kube_ipvs::agent::metrics::Metrics;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::explain::explain_present;
use kube_ipvs_core::model::Settings;
use kube_ipvs_core::testing::{EmptyKernel, all_succeed};
use netlink_ipvs::KernelError;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::api::ApiServer;
use crate::common::objects::{node, only_services, only_slices, service, service_cidrs, slice};

/// The HTTP server of an agent, with an engine that has these endpoints.
pub struct Agent {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub fn start(name: &'static str, endpoints: &'static [&'static str]) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                serve_metrics(listener, routes(name, endpoints), async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        Self { address: address.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn routes(name: &'static str, endpoints: &'static [&'static str]) -> MetricsRoutes {
    MetricsRoutes {
        health: Arc::new(Health::new(SystemTime::now(), Duration::from_secs(30))),
        metrics: Arc::new(Metrics::new().unwrap()),
        traffic: None,
        config: Value::Null,
        flags: [].into(),
        started: SystemTime::UNIX_EPOCH,
        kernel: KernelReaders { count, busiest: |_| Ok(Vec::new()), connections },
        ask: Box::new(move |query| {
            let engine = engine(name, endpoints);
            match query {
                Query::Status { filter, busiest, reply } => {
                    let last_sync = Some(SystemTime::UNIX_EPOCH);
                    drop(reply.send(status(&engine, last_sync, &filter, busiest.as_deref())));
                }
                Query::Names { addresses, reply } => {
                    drop(reply.send(names(&engine, &addresses)));
                }
                Query::Explain { question, reply } => {
                    let explain = |destination, from| explain_present(&engine, destination, from);
                    drop(reply.send(explained(&question, engine.state(), explain)));
                }
                Query::Traffic { .. } => {}
            }
        }),
    }
}

/// Every reading finds a thousand connections of each endpoint more.
fn count(status: &mut StatusView) -> Result<(), KernelError> {
    static READINGS: AtomicU64 = AtomicU64::new(0);
    let connections = READINGS.fetch_add(1, Ordering::SeqCst) * 1000;
    let pools = status.services.iter_mut().flat_map(|service| &mut service.pools);
    for endpoint in pools.flat_map(|pool| &mut pool.backends) {
        endpoint.traffic = Some(TrafficView { connections, ..TrafficView::default() });
    }
    Ok(())
}

/// A connection from a pod.
fn connections(service: &ServiceView, _: usize) -> Result<ConnectionsView, KernelError> {
    let view = json!({
        "connections": [{
            "client": { "address": "10.244.1.6:40000" },
            "frontend": service.frontends[0].address,
            "backend": { "address": "10.244.1.5:8080" },
            "state": "ESTABLISHED",
            "secondsLeft": 899,
            "carrier": "ipvs",
        }],
        "count": 2,
        "note": null,
    });
    Ok(serde_json::from_value(view).unwrap())
}

/// `shop/web` has the same endpoints for every node, `shop/near` those of the node.
fn engine(name: &str, endpoints: &[&str]) -> Engine {
    let mut engine = Engine::new(&Settings::for_node(name), None);
    let web = service("shop/web").cluster_ip("10.96.0.80").port("http", 80);
    let near = service("shop/near").cluster_ip("10.96.0.81").port("http", 80);
    let of = |service: &str| {
        let slice = slice(&format!("{service}-a")).port("http", 8080);
        endpoints.iter().fold(slice, |slice, ip| slice.ready(ip, "n1").pod("web-x"))
    };
    let local = slice("shop/near-a").port("http", 8080);
    let local = local.ready("10.244.1.5", "n1").ready("10.244.2.6", "n2");
    for event in [
        node(name).internal_ip("192.0.2.1").pod_cidr("10.244.1.0/24").into(),
        service_cidrs(&["10.96.0.0/12"]),
        only_slices([of("shop/web"), local]),
        only_services([web, near.local_internal()]),
    ] {
        engine.handle_event(event);
    }
    let mut kernel = EmptyKernel::new(Instant::now(), all_succeed);
    while let Some(work) = engine.next_work(&mut kernel) {
        engine.carry_out(&work, &mut kernel).unwrap();
    }
    engine
}

/// An API server with the pods of agents, and the plugin.
struct Plugin {
    server: ApiServer,
    directory: TempDir,
}

impl Plugin {
    fn new(agents: &[(&str, &Agent)]) -> Self {
        let server = ApiServer::start_tls();
        for (node, agent) in agents {
            let name = format!("kube-ipvs-{node}");
            server.forward(&format!("kube-system/{name}"), agent.address);
            let labels = json!({ "app.kubernetes.io/name": "kube-ipvs" });
            server.put(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "namespace": "kube-system", "name": name, "labels": labels },
                "spec": { "nodeName": node, "containers": [] },
                "status": { "phase": "Running" },
            }));
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        symlink(env!("CARGO_BIN_EXE_kube-ipvs"), directory.path().join("kubectl-ipvs")).unwrap();
        Self { server, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns exit status, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = Command::new(self.path("kubectl-ipvs"))
            .args(arguments)
            .env("KUBECONFIG", self.path("kubeconfig"))
            .output()
            .unwrap();
        let [out, error] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, error)
    }

    fn print(&self, arguments: &[&str]) -> String {
        let (status, out, error) = self.run(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {error}");
        out
    }
}

const BOTH: &[&str] = &["10.244.1.5", "10.244.1.6"];

#[test]
fn every_agent_answers_through_the_api_server() {
    let (first, second) = (Agent::start("n1", BOTH), Agent::start("n2", BOTH));
    let plugin = Plugin::new(&[("n1", &first), ("n2", &second)]);
    let text = plugin.print(&["status", "shop/web"]);
    assert!(text.starts_with("==> n1\n") && text.contains("\n==> n2\n"), "{text}");
    assert!(text.contains("10.244.1.6:8080"), "{text}");
    let lines = plugin.print(&["status", "-o", "json"]);
    let nodes = lines.lines().map(|line| {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["node"], answer["answer"]["node"]);
        answer["node"].as_str().unwrap().to_owned()
    });
    assert_eq!(nodes.collect::<Vec<_>>(), ["n1", "n2"]);
    let explained =
        plugin.print(&["explain", "svc/web", "-n", "shop", "--from", "node", "--node", "n2"]);
    assert!(explained.starts_with("==> n2\n10.96.0.80:80/tcp from node: forward"), "{explained}");
    assert!(!explained.contains("n1\n"), "{explained}");
    plugin.print(&["doctor"]);
    let alike = plugin.print(&["diff"]);
    assert_eq!(alike, "2 nodes are alike and in their desired state\n");
}

#[test]
fn an_endpoint_that_a_node_lacks_is_a_difference() {
    let (first, second) = (Agent::start("n1", BOTH), Agent::start("n2", &BOTH[..1]));
    let plugin = Plugin::new(&[("n1", &first), ("n2", &second)]);
    let (status, text, error) = plugin.run(&["diff"]);
    assert_eq!((status, &*error), (Some(3), ""));
    assert_eq!(text, "shop/web\n  backend 10.244.1.6:8080 of port http: not on n2\n");
    let (_, json, _) = plugin.run(&["diff", "shop/web", "-o", "json"]);
    let view: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(view["differences"][0]["notOn"], json!(["n2"]));
    assert_eq!(plugin.run(&["diff", "shop/near"]).0, Some(0));
}

#[test]
fn an_agent_that_cannot_be_reached_does_not_hide_the_others() {
    let agent = Agent::start("n1", BOTH);
    let gone = Agent::start("n2", BOTH);
    let plugin = Plugin::new(&[("n1", &agent), ("n2", &gone)]);
    drop(gone);
    let (status, text, error) = plugin.run(&["status"]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("==> n1\n"), "{text}");
    // Another test may have taken the port since.
    assert!(error.contains("node n2, pod kube-ipvs-n2: "), "{error}");
    assert!(error.contains("port 10249"), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");

    let (status, _, error) = plugin.run(&["status", "--node", "n3"]);
    assert_eq!(status, Some(1));
    assert!(error.contains("no agent runs on node n3"), "{error}");
}

#[test]
fn traffic_and_connections_are_those_of_each_node() {
    let (first, second) = (Agent::start("n1", &BOTH[1..]), Agent::start("n2", &BOTH[1..]));
    let plugin = Plugin::new(&[("n1", &first), ("n2", &second)]);
    let top = ["top", "shop/web", "--once", "--interval", "100ms"];
    let text = plugin.print(&top);
    assert!(text.starts_with("==> n1\n") && text.contains("\n==> n2\n"), "{text}");
    assert!(text.contains("  shop/web 10.96.0.80:80/tcp\n"), "{text}");
    let lines = plugin.print(&[&top[..], &["-o", "json", "--node", "n2"]].concat());
    let answer: Value = serde_json::from_str(lines.trim_end()).unwrap();
    assert_eq!(answer["node"], "n2");
    assert!(answer["answer"]["pools"][0]["rates"]["connections"].as_u64().unwrap() > 0, "{answer}");

    let (status, text, error) = plugin.run(&["connections", "shop/web", "--node", "n1"]);
    assert_eq!(status, Some(0), "{error}");
    assert!(text.starts_with("==> n1\nCLIENT "), "{text}");
    assert!(text.contains("\n10.244.1.6:40000      10.96.0.80:80/tcp "), "{text}");
    assert!(text.contains(" from (shop/web-x on n1)"), "{text}");
    let (status, _, error) = plugin.run(&["connections", "shop/none"]);
    assert_eq!(status, Some(1));
    assert!(error.contains("no Service shop/none is served here"), "{error}");
}

#[test]
fn a_user_without_the_right_learns_which() {
    let agent = Agent::start("n1", BOTH);
    let plugin = Plugin::new(&[("n1", &agent)]);
    plugin.server.refuse("/api/v1/namespaces/kube-system/pods/kube-ipvs-n1/portforward", 403);
    let (status, _, error) = plugin.run(&["status"]);
    assert_eq!(status, Some(1));
    assert!(error.contains("pods/portforward"), "{error}");
}
