//! The page, in a browser: what it shows of an engine with a failure and an ejected endpoint.

mod browser;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs::agent::api::{self, KernelReaders, StatusView, TrafficView};
use kube_ipvs::agent::health::Health;
use kube_ipvs::agent::http::{MetricsRoutes, Query, bind, serve_metrics};
use kube_ipvs::agent::metrics::Metrics;
use kube_ipvs::doctor::{CheckResult, CheckVerdict, Finding};
use kube_ipvs_core::engine::{Edge, Engine};
use kube_ipvs_core::explain::explain_present;
use kube_ipvs_core::model::{Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{
    CountTargets, Observed, Operation, Outcome, RealCounters, Running, Sample, SampleTargets,
    ServerOperation,
};
use kube_ipvs_core::testing::refuse;
use netlink_ipvs::KernelError;
use serde_json::json;

use self::browser::{Browser, NEVER};
use crate::common::objects::{
    addresses, node, only_services, only_slices, service, service_cidrs, slice,
};

/// More than the page lists.
const SERVICES: usize = 250;
/// The names of objects are hostile where the API server would not accept them.
const HOSTILE: &str = "<img src=x onerror=console.error(1)>";
/// The page's time from an answer to its next question, and what a question takes.
const PERIOD: Duration = Duration::from_secs(2);
const UNDER_WAY: Duration = Duration::from_millis(500);
const DEAD: &str = "10.244.2.13:8080";

/// A kernel in which one endpoint does not answer and one virtual server is refused.
struct SickKernel {
    now: Instant,
    connections: u64,
}

impl Edge for SickKernel {
    type Error = Infallible;

    fn observe(&mut self) -> Result<Observed, Infallible> {
        Ok(Observed::default())
    }

    fn observe_pool(&mut self, _: &VirtualAddress) -> Result<Option<Pool>, Infallible> {
        Ok(None)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, Infallible> {
        Ok(Vec::new())
    }

    fn connections(&mut self, _: &CountTargets) -> Result<Vec<Running>, Infallible> {
        Ok(Vec::new())
    }

    fn sample(&mut self, targets: &SampleTargets) -> Result<Option<Sample>, Infallible> {
        self.connections += 10;
        let counters = |backend: &str, is_alive: bool| RealCounters {
            backend: backend.parse().unwrap(),
            connections: self.connections,
            packets_out: if is_alive { self.connections } else { 0 },
            active: 0,
        };
        let real_servers = targets.real_servers.iter().map(|server| {
            (*server, vec![counters("10.244.1.11:8080", true), counters(DEAD, false)])
        });
        let servers = vec![(web(), self.connections)];
        Ok(Some(Sample { servers, real_servers: real_servers.collect() }))
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        refuse(operations, |operation| {
            let Operation::Server(ServerOperation::Add(server)) = operation else { return false };
            server.address == "10.96.0.30:80/tcp".parse().unwrap()
        })
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}

fn web() -> VirtualAddress {
    "10.96.0.20:80/tcp".parse().unwrap()
}

fn engine() -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    let web = service("shop/web").cluster_ip("10.96.0.20").port("http", 80);
    let web = web.annotation("kube-ipvs.io/eject", "1s");
    let endpoints = slice("shop/web-1").port("http", 8080);
    let endpoints = endpoints.ready("10.244.1.11", "n1").pod("web-5d4b6-x2x9z");
    let endpoints = endpoints.ready("10.244.2.13", "n2").pod(HOSTILE);
    let refused = service("shop/refused").cluster_ip("10.96.0.30").port("http", 80);
    let refused_endpoints = slice("shop/refused-1").port("http", 80).ready("10.244.1.12", "n1");
    let many = (0..SERVICES).map(|index| {
        service(&format!("many/web-{index:03}"))
            .cluster_ip(&format!("10.97.0.{index}"))
            .port("http", 80)
    });
    for event in [
        node("n1").internal_ip("10.0.0.1").pod_cidr("10.244.1.0/24").into(),
        addresses(&["10.0.0.1"]),
        service_cidrs(&["10.96.0.0/12"]),
        only_slices([endpoints, refused_endpoints]),
        only_services(many.chain([web, refused])),
    ] {
        engine.handle_event(event);
    }
    let mut kernel = SickKernel { now: Instant::now(), connections: 0 };
    while engine.ejected().count() == 0 {
        while let Some(work) = engine.next_work(&mut kernel) {
            engine.carry_out(&work, &mut kernel).unwrap();
        }
        kernel.now += Duration::from_millis(500);
        assert!(kernel.connections < 10_000, "it is not ejected");
    }
    engine
}

/// How often the page has read the counters.
static READINGS: AtomicU64 = AtomicU64::new(0);

/// Counts as IPVS does: a thousand more connections at each reading.
fn count(status: &mut StatusView) -> Result<(), KernelError> {
    let readings = 1 + READINGS.fetch_add(1, Ordering::Relaxed);
    for pool in status.services.iter_mut().flat_map(|service| &mut service.pools) {
        for endpoint in &mut pool.backends {
            let connections = 1_000 * readings;
            endpoint.active_connections = Some(7);
            endpoint.inactive_connections = Some(0);
            endpoint.traffic = Some(TrafficView { connections, ..TrafficView::default() });
        }
    }
    Ok(())
}

/// Serves the page of an engine, as the agent does, until the test ends.
fn serve() -> SocketAddr {
    let engine = Arc::new(Mutex::new(engine()));
    let check = CheckResult {
        check: "conntrack".to_owned(),
        finding: Finding {
            verdict: CheckVerdict::Warn,
            found: "75 of 100 entries".to_owned(),
            mend: vec!["raise the size".to_owned()],
        },
    };
    let routes = MetricsRoutes {
        health: Arc::new(Health::new(SystemTime::now(), Duration::from_secs(30))),
        metrics: Arc::new(Metrics::new().unwrap()),
        traffic: None,
        config: json!({}),
        flags: BTreeMap::new(),
        started: SystemTime::now(),
        kernel: KernelReaders { count, ..KernelReaders::HERE },
        ask: Box::new(move |query| {
            let engine = engine.lock().unwrap();
            match query {
                Query::Status { filter, reply, .. } => {
                    let snapshot = api::status(&engine, Some(SystemTime::now()), &filter, None);
                    drop(reply.send(snapshot.with_checks(vec![check.clone()])));
                }
                Query::Explain { question, reply } => {
                    let explain = |destination, from| explain_present(&engine, destination, from);
                    drop(reply.send(api::explained(&question, engine.state(), explain)));
                }
                Query::Traffic { .. } | Query::Names { .. } => {}
            }
        }),
    };
    let (bound, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            bound.send(listener.local_addr().unwrap()).unwrap();
            serve_metrics(listener, routes, std::future::pending()).await;
        });
    });
    address.recv().unwrap()
}

#[test]
fn a_browser_shows_services_ejections_failures_and_explanations() {
    let Some(mut browser) = Browser::start() else { return };
    let address = serve();
    let screenshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&screenshots).unwrap();

    let rate = "/[0-9]/.test(document.querySelector('#totals dd').textContent)";
    browser.prefer("light");
    browser.open(&format!("http://{address}/"));
    browser.until_text("#sync", "synced");
    browser.until_text("#listed", "The first 100 of 252 Services, by name.");
    assert_eq!(browser.evaluate("document.querySelectorAll('#services > tr > th').length"), 100);
    browser.until_text("#failures", "failed -A -t 10.96.0.30:80 -s rr: no memory (attempts: ");
    browser.until_text("#failures", "check conntrack: warn 75 of 100 entries. raise the size");
    browser.screenshot(&screenshots.join("many.png"));

    // By keyboard alone: the filter, the Service, its first front end.
    browser.focus("#filter input");
    browser.write("shop/web");
    browser.until_text("#listed", "1 Service");
    browser.until_text("#services", "shop/web");
    browser.press("Tab");
    browser.press("Tab");
    browser.press("Tab");
    browser.press("Enter");
    browser.until_text("#services .detail", &format!("{DEAD}{HOSTILE}n2ejected0"));
    browser.until_text("#services .detail", "10.244.1.11:8080web-5d4b6-x2x9zn1serving17");
    browser.press("Tab");
    browser.press("Enter");
    browser.until_text("#explained", "10.96.0.20:80/tcp from node: forward");
    browser.until_text("#explained", "serving1100 %");
    browser.until("a rate", rate);
    browser.until(
        "a plot",
        "document.querySelector('#services polyline').getAttribute('points').includes(' ')",
    );
    let background = "getComputedStyle(document.body).backgroundColor";
    let light = browser.evaluate(background);
    browser.screenshot(&screenshots.join("light.png"));

    // The address keeps all of it.
    let kept = browser.evaluate("location.href");
    browser.prefer("dark");
    browser.open("about:blank");
    browser.open(kept.as_str().unwrap());
    browser.until_text("#services .detail", &format!("{DEAD}{HOSTILE}n2ejected0"));
    browser.until_text("#explained", "10.96.0.20:80/tcp from node: forward");
    browser.until("a rate", rate);
    assert_ne!(browser.evaluate(background), light);
    browser.screenshot(&screenshots.join("dark.png"));

    // Hidden, it asks nothing.
    let hide = |is_hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    browser.evaluate(&hide(true));
    thread::sleep(UNDER_WAY);
    let readings = READINGS.load(Ordering::Relaxed);
    thread::sleep(PERIOD + UNDER_WAY);
    assert_eq!(READINGS.load(Ordering::Relaxed), readings);
    browser.evaluate(&hide(false));
    let shown = Instant::now();
    while READINGS.load(Ordering::Relaxed) == readings {
        assert!(shown.elapsed() < NEVER, "it does not ask again");
        thread::sleep(Duration::from_millis(50));
    }

    browser.focus("#explain input");
    browser.write("svc/none");
    browser.press("Enter");
    browser.until_text("#explained", "no Service shop/");
    // The browser itself reports the answer 404 to a question about what is unknown.
    let messages: Vec<_> = browser.messages().iter().filter(|it| !it.contains("404")).collect();
    assert!(messages.is_empty(), "{messages:#?}");
}
