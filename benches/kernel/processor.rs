//! The processor time of the agent while slices change, and while nothing does: the program itself,
//! with an API server over TLS and realistic objects.
//!
//! The agent's time is the scheduler's count of its threads. The scheduler cannot split it: it
//! separates user and system time by ticks of 4 ms, which is long compared with a change. The
//! kernel's part is therefore measured separately: the same number of operations of the same kind,
//! as bare messages.
//!
//! On Linux 6.1 a timer walks all real servers every two seconds ([`ESTIMATORS`]), which takes as
//! long as dozens of changes, and charges the running thread. It is off while the agent is
//! measured, and on while the whole machine is measured.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_ipvs::client::AgentClient;
use kube_ipvs::kernel::Kernel;

use crate::Result;
use crate::agent::Agent;
use crate::api::ApiServer;
use crate::api::objects::{node, service, service_cidr};
use crate::api::real::{real, real_slice};
use crate::cluster::frontend;
use crate::figure::Figure;
use crate::namespace::{on_node, sysctl};
use crate::work::{Replay, added_endpoints};

const MANY: u32 = 10_000;
const FEW: u32 = 100;
const ENDPOINTS: usize = 10;

/// The number of changed slices, each of another Service.
const CHANGES: u32 = 500;
/// The time between changes.
const BETWEEN: Duration = Duration::from_millis(20);

/// Nothing changes for so many minutes: the default `auditPeriod`, so everything is audited once.
const IDLE_MINUTES: u32 = 5;
const MINUTE: Duration = Duration::from_secs(60);

/// After this time a start or an end is over, and the threads of a start have ended.
const SETTLED: Duration = Duration::from_secs(15);

/// The address at which the agent answers.
const AGENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// How often the agent is asked.
const QUESTIONS: u32 = 20;

/// Whether the kernel estimates the rates of connections, packets and bytes.
const ESTIMATORS: &str = "net.ipv4.vs.run_estimation";

fn cluster(services: u32) -> ApiServer {
    let server = ApiServer::start_tls();
    server.put(node("n1", "192.0.2.1"));
    server.put(service_cidr("kubernetes", "10.96.0.0/12"));
    for index in 0..services {
        let ip = frontend(index).ip.to_string();
        server.put(real(service(&format!("s{index:04}"), &ip)));
        server.put(real_slice(index as usize, ENDPOINTS));
    }
    server
}

/// Returns the Service of a change; the changes are spread over all Services.
fn changed(at: u32) -> u32 {
    at * (MANY / CHANGES)
}

/// Calls `act` at the time of each change, and sleeps in between.
fn at_each_change(mut act: impl FnMut(u32) -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for at in 0..CHANGES {
        act(at)?;
        sleep((BETWEEN * (at + 1)).saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// Measures the processor share of the agent while slices change, and that of the kernel's work on
/// the operations.
fn churn(server: &ApiServer, agent: &Agent) -> Result<[f64; 2]> {
    let percent = |busy: Duration| 100.0 * busy.as_secs_f64() / (BETWEEN * CHANGES).as_secs_f64();
    let all = agent.busy_during(|| {
        at_each_change(|at| {
            server.put(real_slice(changed(at) as usize, ENDPOINTS + 1));
            Ok(())
        })
    })?;
    let services: Vec<_> = (0..CHANGES).map(changed).collect();
    let frontends: Vec<_> = services.iter().copied().map(frontend).collect();
    let mut kernel = Kernel::open()?;
    let mut held = Vec::new();
    for frontend in &frontends {
        held.extend(kernel.ipvs.observe_server(frontend)?);
    }
    let is_whole = held.iter().all(|pool| pool.backends.len() == ENDPOINTS + 1);
    if !is_whole || held.len() != frontends.len() {
        return Err("the kernel does not hold all changes".into());
    }
    let mut bare = Replay::single(&added_endpoints(services))?;
    let mut operations = Duration::ZERO;
    at_each_change(|at| {
        let start = Instant::now();
        bare.send(at as usize)?;
        operations += start.elapsed();
        Ok(())
    })?;
    Ok([percent(all), percent(operations)])
}

/// Lets the time pass in which nothing changes. A server sends each watch a bookmark a minute.
fn idle(server: &ApiServer) {
    for _ in 0..IDLE_MINUTES {
        server.bookmark();
        sleep(MINUTE);
    }
}

/// Percent of a processor that the agent takes meanwhile.
fn agent_idle(server: &ApiServer, agent: &Agent) -> Result<f64> {
    let busy = agent.busy_during(|| {
        idle(server);
        Ok(())
    })?;
    Ok(100.0 * busy.as_secs_f64() / (MINUTE * IDLE_MINUTES).as_secs_f64())
}

/// Percent that this machine's only processor is busy meanwhile.
fn machine_idle(server: &ApiServer) -> Result<f64> {
    let times = || -> Result<[f64; 2]> {
        let text = fs::read_to_string("/proc/uptime")?;
        let (up, idle) = text.trim().split_once(' ').ok_or("no idle time")?;
        Ok([up.parse()?, idle.parse()?])
    };
    let before = times()?;
    idle(server);
    let [up, idle] = times()?;
    Ok(100.0 * (1.0 - (idle - before[1]) / (up - before[0])))
}

/// Returns an agent with no work left, without estimators.
fn settled(services: u32) -> Result<(ApiServer, Agent)> {
    sysctl(&format!("{ESTIMATORS}=0"))?;
    let server = cluster(services);
    let agent = Agent::start(&server)?;
    sleep(SETTLED);
    Ok((server, agent))
}

/// Percent of a processor that the agent takes while it is asked a question again and again.
fn watched(agent: &Agent, path: &str, every: Duration) -> Result<f64> {
    let client = AgentClient::new(AGENT);
    let ask = || client.get(path).map(drop);
    // The thread that reads the kernel lives while there are questions.
    ask()?;
    let start = Instant::now();
    let busy = agent.busy_during(|| {
        for asked in 1..=QUESTIONS {
            sleep((every * asked).saturating_sub(start.elapsed()));
            ask()?;
        }
        Ok(())
    })?;
    Ok(100.0 * busy.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Measures the agent while its page is open, and while `top` runs.
pub(crate) fn watchers() -> Result<Vec<Figure>> {
    let measure = |services| {
        on_node(move || {
            let (_server, agent) = settled(services)?;
            let page = watched(&agent, "/status?limit=100&counters=true", Duration::from_secs(3))?;
            let top = "/status?limit=50&counters=true&busiest=connections";
            Ok([page, watched(&agent, top, Duration::from_secs(4))?])
        })
    };
    let (many, few) = (measure(MANY)?, measure(FEW)?);
    let figure = |name, what: &str, at: usize| {
        let what = format!("the agent while {what}, 10,000 × 10; baseline 100 × 10");
        Figure::new(name, what, "%", many[at], few[at])
    };
    Ok(vec![
        figure("watched_page_cpu", "its page is open", 0),
        figure("watched_top_cpu", "`top` runs", 1),
    ])
}

pub(crate) fn shares() -> Result<Vec<Figure>> {
    let few = on_node(|| {
        let (server, agent) = settled(FEW)?;
        agent_idle(&server, &agent)
    })?;
    let (churn, many, machine) = on_node(|| {
        let (server, agent) = settled(MANY)?;
        let churn = churn(&server, &agent)?;
        let many = agent_idle(&server, &agent)?;
        sysctl(&format!("{ESTIMATORS}=1"))?;
        let with_agent = machine_idle(&server)?;
        drop(agent);
        sleep(SETTLED);
        Ok((churn, many, [with_agent, machine_idle(&server)?]))
    })?;
    let changing = "the agent at 50 changed slices a second, 10,000 × 10; baseline the kernel's work \
                    on the operations";
    let agent = "the agent in five minutes without a change, one audit included, 10,000 × 10; \
                 baseline 100 × 10";
    let all =
        "the whole machine in that time, estimators included; baseline the same without the agent";
    Ok(vec![
        Figure::new("churn_cpu", changing, "%", churn[0], churn[1]),
        Figure::new("idle_cpu", agent, "%", many, few),
        Figure::new("idle_machine_cpu", all, "%", machine[0], machine[1]),
    ])
}
