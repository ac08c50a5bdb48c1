//! An endpoint that stops answering gets no new connections until it answers again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Silence, ask_from_port, endpoints, ipvs_rules, service};
/// The pod that stops answering, as a real server.
const DEAD: &str = "10.244.2.13:8080";

/// How long a client waits for an answer that may never come, or for one that comes in the end,
/// and pauses after one.
const WAIT: Duration = Duration::from_millis(500);
const LONG_WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_dead_endpoint_of_a_cluster_ip_is_ejected", |t| {
            ejected_and_restored(t, "", P2, "10.96.9.60:80/tcp")
        }),
        case("a_dead_endpoint_of_a_carried_cluster_ip_is_ejected", |t| {
            ejected_and_restored(t, "carry: all", P2, "10.96.9.60:80/tcp")
        }),
        case("a_dead_endpoint_of_offloaded_connections_is_ejected", |t| {
            let offload = "carry: offload\noffloadInterfaces: [eth0, cni0, 'P*']";
            ejected_and_restored(t, offload, C, "192.168.50.1:30960/tcp")
        }),
        case("a_dead_endpoint_of_a_node_port_is_ejected", |t| {
            ejected_and_restored(t, "", C, "192.168.50.1:30960/tcp")
        }),
        case("a_dead_endpoint_of_the_nodes_own_processes_is_ejected", |t| {
            ejected_and_restored(t, "", N1, "192.168.50.1:30960/tcp")
        }),
        case("a_restarted_agent_tries_an_ejected_endpoint", |t| {
            t.agent().configure("defaults: {eject: 1s}")?;
            let clients = ejected(t)?;
            t.agent().kill()?;
            t.check("the weight stays", weight(t)? == Some(0), ipvs_rules(t.host(N1))?)?;
            let plan = t.command("plan", &["--exit-code"])?;
            t.exits_with("a plan that leaves it alone", 0, &plan)?;
            let names_it =
                plan.stderr.contains(&format!("{DEAD} of 10.96.9.60:80/tcp has weight 0"));
            t.check("`plan` names it", names_it, format!("{plan:#?}"))?;
            t.agent().start()?;
            eventually_weighs(t, 1)?;
            eventually_weighs(t, 0)?;
            answer_again(t)?;
            eventually_weighs(t, 1)?;
            clients.stop();
            Ok(())
        }),
        case("an_endpoint_is_not_ejected_while_ipvs_does_not_add_up", |t| {
            t.agent().configure("defaults: {eject: 1s}")?;
            let clients = ejected(t)?;
            t.host(N1).sysctl(&["net.ipv4.vs.run_estimation=0"])?;
            t.agent().wait_for_log("kube-ipvs.io/eject has no effect")?;
            eventually_weighs(t, 1)?;
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(250));
                t.check("it stays", weight(t)? == Some(1), ipvs_rules(t.host(N1))?)?;
            }
            clients.stop();
            t.host(N1).sysctl(&["net.ipv4.vs.run_estimation=1"])?;
            answer_again(t)
        }),
        case("without_ejection_a_dead_endpoint_stays", |t| {
            served(t)?;
            let clients = Clients::start(t, C, "192.168.50.1:30960/tcp", WAIT);
            thread::sleep(Duration::from_secs(2));
            let died = fall_silent(t)?;
            thread::sleep(Duration::from_secs(10));
            let requests = clients.stop();
            answer_again(t)?;
            print_failures("without ejection", &requests, died);
            t.check("it stays", weight(t)? == Some(1), ipvs_rules(t.host(N1))?)
        }),
        case("a_slow_endpoint_and_an_only_endpoint_are_not_ejected", |t| {
            slow_and_only(t, P2, "10.96.9.61:80/tcp")
        }),
        case("a_slow_endpoint_of_a_node_port_is_not_ejected", |t| {
            slow_and_only(t, C, "192.168.50.1:30961/tcp")
        }),
    ]
}

/// A pod accepts connections and says nothing, and the only endpoint of another Service does not
/// answer at all.
fn slow_and_only(t: &mut TestContext<'_>, from: Host, to: &str) -> Step {
    t.agent().configure("defaults: {eject: 1s}")?;
    let silent = t.host(P3).inside(|| TcpListener::bind("10.244.2.13:8099"))?;
    silent.set_nonblocking(true)?;
    t.apply(service("dev/slow").cluster_ip("10.96.9.61").port("http", 80).node_port(30961))?;
    t.apply(endpoints("dev/slow").port("http", 8080).ready_on(P1))?;
    t.apply(endpoints("dev/slow").named("slow-2").port("http", 8099).ready_on(P3))?;
    t.apply(service("dev/only").cluster_ip("10.96.9.62").port("http", 80))?;
    t.apply(endpoints("dev/only").port("http", 8080).ready_on(P3))?;
    t.settled()?;
    let slow = Clients::start(t, from, to, WAIT);
    let only = Clients::start(t, P2, "10.96.9.62:80/tcp", WAIT);
    thread::sleep(Duration::from_secs(2));
    fall_silent_at(t, 8080)?;
    let mut accepted = Vec::new();
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(250));
        // With a full queue of connections, the pod's kernel would not answer either.
        accepted.extend(silent.incoming().map_while(Result::ok));
        let rules = ipvs_rules(t.host(N1))?;
        t.check("both stay", !rules.contains(" -w 0"), &rules)?;
    }
    let failures = [slow, only]
        .map(|clients| clients.stop().iter().filter(|request| request.answer.is_err()).count());
    answer_again(t)?;
    t.check("both fail", failures.iter().all(|it| *it > 10), format!("{failures:?}"))
}

/// A Service with three endpoints, of which one will fall silent.
fn served(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/silent").cluster_ip("10.96.9.60");
    t.apply(web.port("http", 80).node_port(30960))?;
    t.apply(endpoints("dev/silent").port("http", 8080).ready_on(P1).ready_on(P3).ready_on(P4))?;
    t.settled()
}

fn ejected_and_restored(t: &mut TestContext<'_>, carry: &str, from: Host, to: &str) -> Step {
    t.agent().configure(&format!("{carry}\nauditPeriod: 1s\ndefaults: {{eject: 1s}}"))?;
    served(t)?;
    let open = |_| Ok((to.to_owned(), t.connect(from, to)?));
    let mut open = (0..3).map(open).collect::<Step<Vec<_>>>()?;
    t.still_answer(&mut open)?;
    // Long enough for any wrong ejection.
    all_answered(t, from, to, Duration::from_secs(6))?;
    let log = t.agent().log();
    t.check("nothing is ejected", !log.contains("EndpointEjected"), &log)?;

    let clients = Clients::start(t, from, to, WAIT);
    thread::sleep(Duration::from_secs(1));
    let died = fall_silent(t)?;
    eventually_weighs(t, 0)?;
    let ejected = died.elapsed();
    for command in [&["explain", to, "--from", "node"][..], &["status"]] {
        let mark = format!("{DEAD} weight 0, ejected");
        // It has its weight for a moment when it is tried.
        patiently(LONG_PATIENCE, || {
            let shown = t.agent().bare_command(command)?;
            let what = format!("`{}` shows it", command[0]);
            t.check(&what, shown.stdout.contains(&mark), format!("{shown:#?}"))
        })?;
    }
    // A few trials.
    thread::sleep(Duration::from_secs(8));
    let metrics = t.metrics()?;
    // Audits do not take the weight for drift.
    for line in ["kube_ipvs_ejections_total 1\n", "kube_ipvs_drift_repairs_total 0\n"] {
        t.check(line, metrics.contains(line), &metrics)?;
    }
    answer_again(t)?;
    let revived = Instant::now();
    t.agent().wait_for_log("an ejected endpoint answers again")?;
    eventually_weighs(t, 1)?;
    println!("{from} asks {to}: ejected after {ejected:?}, back after {:?}", revived.elapsed());
    print_failures(to, &clients.stop(), died);
    all_answered(t, from, to, Duration::from_secs(5))?;
    t.still_answer(&mut open)?;
    let log = t.agent().log();
    let wrong = log.lines().filter(|line| line.contains("EndpointEjected"));
    let wrong: Vec<_> = wrong.filter(|line| !line.contains(DEAD)).collect();
    t.check("only the dead one was ejected", wrong.is_empty(), wrong.join("\n"))?;
    Ok(())
}

/// Asks for a time, during which each endpoint answers and no request fails.
fn all_answered(t: &TestContext<'_>, from: Host, to: &str, time: Duration) -> Step {
    let clients = Clients::start(t, from, to, LONG_WAIT);
    thread::sleep(time);
    let answers: Result<BTreeSet<_>, _> =
        clients.stop().into_iter().map(|request| request.answer).collect();
    let all = Ok([P1, P3, P4].into());
    t.check("each endpoint answers", answers == all, format!("{answers:?}"))
}

/// Drops everything that reaches or leaves the pod, as if its node were gone.
fn fall_silent(t: &TestContext<'_>) -> Step<Instant> {
    let drop =
        |hook| format!("chain {hook} {{ type filter hook {hook} priority -300; policy drop; }};");
    t.host(P3).nft(&format!("table ip silence {{ {} {} }}", drop("input"), drop("output")))?;
    Ok(Instant::now())
}

/// The same at one port.
fn fall_silent_at(t: &TestContext<'_>, port: u16) -> Step {
    let chain = "chain input { type filter hook input priority -300;";
    Ok(t.host(P3).nft(&format!("table ip silence {{ {chain} tcp dport {port} drop; }}; }}"))?)
}

fn answer_again(t: &TestContext<'_>) -> Step {
    Ok(t.host(P3).nft("delete table ip silence")?)
}

/// Lets the pod fall silent under load, until it is ejected.
fn ejected(t: &mut TestContext<'_>) -> Step<Clients> {
    served(t)?;
    let clients = Clients::start(t, P2, "10.96.9.60:80/tcp", WAIT);
    thread::sleep(Duration::from_secs(3));
    fall_silent(t)?;
    eventually_weighs(t, 0)?;
    Ok(clients)
}

/// The weight of the pod as a real server.
fn weight(t: &TestContext<'_>) -> Step<Option<u32>> {
    let rules = ipvs_rules(t.host(N1))?;
    let weight = rules.lines().find_map(|line| {
        let (_, weight) = line.split_once(&format!(" -r {DEAD} -m -w "))?;
        weight.split(' ').next()?.parse().ok()
    });
    Ok(weight)
}

fn eventually_weighs(t: &TestContext<'_>, expected: u32) -> Step {
    patiently(LONG_PATIENCE, || {
        let weight = weight(t)?;
        t.check(&format!("weight {expected}"), weight == Some(expected), format!("{weight:?}"))
    })
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
    fn start(t: &TestContext<'_>, from: Host, to: &str, wait: Duration) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let to = to.parse().expect("a front end");
        let client = |_| {
            let (namespace, stopping) = (Arc::clone(t.host(from)), Arc::clone(&stopping));
            thread::spawn(move || {
                namespace.enter().expect("root may enter a namespace that it has made");
                let mut requests = Vec::new();
                while !stopping.load(Ordering::SeqCst) {
                    let began = Instant::now();
                    let answer = ask_from_port(namespace.client_port(), to, wait);
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
