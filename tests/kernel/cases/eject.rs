//! An endpoint that stops answering gets no new connections until it answers again.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs::client::AgentClient;
use kube_ipvs_core::model::Protocol::Tcp;

use super::{Case, case};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Silence, ask_from_port, endpoints, ipvs_rules, service};
use crate::trial::{LONG_PATIENCE, Step, Trial, patiently};

const POOL: &str = "10.96.9.60:80";
/// The pod that stops answering, as a real server.
const DEAD: &str = "10.244.2.13:8080";

/// How long a client waits for an answer, and pauses after one.
const WAIT: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_dead_endpoint_of_a_cluster_ip_is_ejected", |t| {
            ejected_and_restored(t, P2, "10.96.9.60:80/tcp")
        }),
        case("a_dead_endpoint_of_a_node_port_is_ejected", |t| {
            ejected_and_restored(t, C, "192.168.50.1:30960/tcp")
        }),
        case("a_dead_endpoint_of_the_nodes_own_processes_is_ejected", |t| {
            ejected_and_restored(t, N1, "192.168.50.1:30960/tcp")
        }),
        case("without_the_option_a_dead_endpoint_stays", |t| {
            served(t)?;
            let clients = Clients::start(t, C, "192.168.50.1:30960/tcp");
            thread::sleep(Duration::from_secs(2));
            let died = fall_silent(t)?;
            thread::sleep(Duration::from_secs(10));
            let requests = clients.stop();
            answer_again(t)?;
            print_failures("without ejection", &requests, died);
            t.check("it stays", weight(t, POOL, DEAD)? == Some(1), ipvs_rules(t.host(N1))?)
        }),
        case("a_slow_endpoint_and_an_only_endpoint_are_not_ejected", |t| {
            t.agent().configure("defaults: {eject: 1s}")?;
            // Nothing accepts the connections, so only the kernel answers.
            let silent = t.host(P3).inside(|| TcpListener::bind("10.244.2.13:8099"))?;
            t.apply(service("dev/slow").cluster_ip("10.96.9.61").port(80, "http", Tcp))?;
            t.apply(endpoints("dev/slow").port("http", 8080, Tcp).ready(P1))?;
            t.apply(endpoints("dev/slow").named("slow-2").port("http", 8099, Tcp).ready(P3))?;
            t.apply(service("dev/only").cluster_ip("10.96.9.62").port(80, "http", Tcp))?;
            t.apply(endpoints("dev/only").port("http", 8080, Tcp).ready(P3))?;
            t.settled()?;
            let slow = Clients::start(t, P2, "10.96.9.61:80/tcp");
            let only = Clients::start(t, P2, "10.96.9.62:80/tcp");
            thread::sleep(Duration::from_secs(2));
            fall_silent_at(t, 8080)?;
            for _ in 0..40 {
                thread::sleep(Duration::from_millis(250));
                let rules = ipvs_rules(t.host(N1))?;
                t.check("both stay", !rules.contains(" -w 0"), &rules)?;
            }
            let failures = [slow, only].map(|clients| {
                clients.stop().iter().filter(|request| request.answer.is_err()).count()
            });
            answer_again(t)?;
            drop(silent);
            t.check("both fail", failures.iter().all(|it| *it > 10), format!("{failures:?}"))
        }),
    ]
}

/// A Service with three endpoints, of which one will fall silent.
fn served(t: &mut Trial<'_>) -> Step {
    let web = service("dev/silent").cluster_ip("10.96.9.60").with("type", "NodePort");
    t.apply(web.port(80, "http", Tcp).node_port(30960))?;
    t.apply(endpoints("dev/silent").port("http", 8080, Tcp).ready(P1).ready(P3).ready(P4))?;
    t.settled()
}

fn ejected_and_restored(t: &mut Trial<'_>, from: Host, to: &str) -> Step {
    t.agent().configure("defaults: {eject: 1s}")?;
    served(t)?;
    let clients = Clients::start(t, from, to);
    // Long enough for any wrong ejection.
    thread::sleep(Duration::from_secs(6));
    let log = t.agent().log();
    t.check("nothing is ejected", !log.contains("EndpointEjected"), &log)?;

    let died = fall_silent(t)?;
    eventually_weighs(t, 0)?;
    let ejected = died.elapsed();
    for command in [&["explain", to, "--from", "node"][..], &["status"]] {
        let shown = t.agent().bare_command(command)?;
        let mark = format!("{DEAD} weight 0, ejected");
        t.check(
            &format!("`{}` shows it", command[0]),
            shown.stdout.contains(&mark),
            format!("{shown:#?}"),
        )?;
    }
    // A few trials.
    thread::sleep(Duration::from_secs(8));
    let metrics = metrics(t)?;
    for line in ["kube_ipvs_ejections_total 1\n", "kube_ipvs_ejected_real_servers "] {
        t.check(line, metrics.contains(line), &metrics)?;
    }
    answer_again(t)?;
    let revived = Instant::now();
    t.agent().wait_for_log("an ejected endpoint answers again")?;
    eventually_weighs(t, 1)?;
    println!("{from} asks {to}: ejected after {ejected:?}, back after {:?}", revived.elapsed());
    let back = Instant::now();
    thread::sleep(Duration::from_secs(5));
    let requests = clients.stop();
    print_failures(to, &requests, died);

    let before = requests.iter().filter(|it| it.answer.is_err() && it.began < died - WAIT);
    t.equal("failures before", 0, before.count())?;
    let after: Vec<_> = requests.iter().filter(|it| it.began > back).collect();
    let failed = after.iter().filter(|it| it.answer.is_err()).count();
    t.equal("failures after its return", 0, failed)?;
    let answers = after.iter().any(|it| it.answer == Ok(P3));
    t.check("it answers again", answers, format!("{} requests", after.len()))?;
    let log = t.agent().log();
    let wrong = log.lines().filter(|line| line.contains("EndpointEjected"));
    let wrong: Vec<_> = wrong.filter(|line| !line.contains(DEAD)).collect();
    t.check("only the dead one was ejected", wrong.is_empty(), wrong.join("\n"))?;
    Ok(())
}

/// Drops everything that reaches the pod.
fn fall_silent(t: &Trial<'_>) -> Step<Instant> {
    let table =
        "table ip silence { chain input { type filter hook input priority -300; policy drop; }; }";
    t.host(P3).nft(table)?;
    Ok(Instant::now())
}

/// The same at one port.
fn fall_silent_at(t: &Trial<'_>, port: u16) -> Step {
    let chain = "chain input { type filter hook input priority -300;";
    Ok(t.host(P3).nft(&format!("table ip silence {{ {chain} tcp dport {port} drop; }}; }}"))?)
}

fn answer_again(t: &Trial<'_>) -> Step {
    Ok(t.host(P3).nft("delete table ip silence")?)
}

/// The weight of a real server.
fn weight(t: &Trial<'_>, pool: &str, real: &str) -> Step<Option<u32>> {
    let rules = ipvs_rules(t.host(N1))?;
    let head = format!("-a -t {pool} -r {real} -m -w ");
    let weight =
        rules.lines().find_map(|line| line.strip_prefix(&head)?.split(' ').next()?.parse().ok());
    Ok(weight)
}

fn eventually_weighs(t: &Trial<'_>, expected: u32) -> Step {
    patiently(LONG_PATIENCE, || {
        let weight = weight(t, POOL, DEAD)?;
        t.check(&format!("weight {expected}"), weight == Some(expected), format!("{weight:?}"))
    })
}

fn metrics(t: &Trial<'_>) -> Step<String> {
    let answer = t.host(N1).inside(|| {
        let address = "127.0.0.1:10249".parse().expect("address");
        AgentClient::new(address).get("/metrics").map_err(io::Error::other)
    })?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A request, and the host that answered.
struct Request {
    began: Instant,
    answer: Result<Host, Silence>,
}

/// Clients that go on asking whether or not they get answers.
struct Clients {
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Request>>>,
}

impl Clients {
    fn start(t: &Trial<'_>, from: Host, to: &str) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let to = to.parse().expect("a front end");
        let client = |_| {
            let (namespace, stopping) = (Arc::clone(t.host(from)), Arc::clone(&stopping));
            thread::spawn(move || {
                namespace.enter().expect("root may enter a namespace that it has made");
                let mut requests = Vec::new();
                while !stopping.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let answer = ask_from_port(namespace.client_port(), to, WAIT);
                    requests.push(Request { began, answer: answer.map(|reply| reply.server) });
                    thread::sleep(PAUSE);
                }
                requests
            })
        };
        let threads = (0..6).map(client).collect();
        Self { stopping, threads }
    }

    fn stop(self) -> Vec<Request> {
        self.stopping.store(true, Ordering::SeqCst);
        let join = |thread: JoinHandle<_>| thread.join().expect("a client");
        self.threads.into_iter().flat_map(join).collect()
    }
}

/// Prints how many requests of each second have failed.
fn print_failures(what: &str, requests: &[Request], died: Instant) {
    let mut seconds = BTreeMap::<u64, (usize, usize)>::new();
    let mut last = Duration::ZERO;
    for Request { began, answer } in requests.iter().filter(|it| it.began >= died) {
        let after = *began - died;
        let (all, failed) = seconds.entry(after.as_secs()).or_default();
        *all += 1;
        if answer.is_err() {
            *failed += 1;
            last = last.max(after);
        }
    }
    println!("{what}: the last failure began {last:?} after the death; failed of all, by second:");
    for (second, (all, failed)) in seconds {
        println!("{what}: {second} s: {failed} of {all}");
    }
}
