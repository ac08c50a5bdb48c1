//! Random churn with kills and drift, under traffic, for as long as one likes: `make soak`.
//!
//! Each round changes some objects, kills the agent or harms its state, waits until the kernel is
//! as it should be, and makes clients lookup: what they meet with has to be what `explain` says. All
//! along, other clients ask a Service that always has an endpoint that stays: none of them may be
//! left without an answer, but for the time from a harm to its mending.

mod churn;
mod drift;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kube_ipvs_core::model::{Family, VirtualAddress};

use self::churn::Churn;
use self::drift::Foreign;
use crate::cases::{Case, case};
use crate::context::{Failure, Step, TestContext};
use crate::explained::{Clients, Pair, contradiction, programs};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Agent, FailedRequest, Lab, ServiceBuilder, endpoints_of_both, product, service};

/// The clients.
const CLIENTS: [Host; 4] = [N1, P1, P2, C];
/// Pairs that meet in each round.
const PAIRS: usize = 16;
/// Consecutive rounds in which the agent is killed, followed by as many in which its state is harmed.
/// Requests may fail between a harm and its repair, but none because of a kill.
const PHASE: usize = 16;
/// How many times as long a soak may take that has not had both yet.
const SLOWNESS: u32 = 10;
/// Most kills, or harms, before the kernel's state must be right again.
const HARMS: u8 = 3;
/// Most objects that change at once.
const CHANGES: usize = 6;
/// Who asks the steady Service all the time, and where.
const STEADY: [(Host, &str); 5] = [
    (P2, "10.96.40.1:80/tcp"),
    (P2, "[fd00:96::40:1]:80/udp"),
    (N1, "203.0.113.140:80/tcp"),
    (C, "203.0.113.140:80/udp"),
    (C, "192.168.50.1:31499/tcp"),
];
/// In the suite: seconds, and the seed.
const SHORT: (u64, u64) = (30, 1);

pub(crate) fn cases() -> Vec<Case> {
    vec![case("soak", |t| {
        let (seconds, seed) = SHORT;
        let tally = soak(t, Duration::from_secs(seconds), seed)?;
        println!("        {tally}");
        t.check("kills and drifts", tally.kills > 0 && tally.drifts > 0, &tally)?;
        t.equal("connections lost", 0, tally.lost)
    })]
}

/// Runs for `SECONDS:SEED` in a lab of its own.
pub(crate) fn run(plan: &str) -> Step<EndpointCounts> {
    let numbers = plan.split_once(':').map(|(seconds, seed)| (seconds.parse(), seed.parse()));
    let Some((Ok(seconds), Ok(seed))) = numbers else {
        return Err(Failure::new("--soak", "SECONDS:SEED", plan));
    };
    let lab = Lab::build()?;
    let mut agent = Agent::new(&lab, "soak")?;
    let mut context = TestContext::new(&lab, &mut agent)?;
    let tally = soak(&mut context, Duration::from_secs(seconds), seed)?;
    context.finish()?;
    Ok(tally)
}

/// What has happened.
#[derive(Default)]
pub(crate) struct EndpointCounts {
    events: usize,
    kills: usize,
    drifts: usize,
    connections: usize,
    /// Connections that were not answered as they should have been.
    pub(crate) lost: usize,
}

impl fmt::Display for EndpointCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, kills, drifts, connections, lost } = self;
        write!(f, "soak: {events} events, {kills} kills, {drifts} drifts, ")?;
        write!(f, "{connections} connections, {lost} lost")
    }
}

/// A time in which clients may be left without an answer.
struct Outage {
    what: String,
    from: Instant,
    to: Instant,
}

fn soak(t: &mut TestContext<'_>, duration: Duration, seed: u64) -> Step<EndpointCounts> {
    let mut rng = Rng::with_seed(seed);
    let mut tally = EndpointCounts::default();
    t.agent().configure("auditPeriod: 250ms")?;
    let foreign = Foreign::new(t)?;
    t.apply(steady())?;
    steady_endpoints(t, P3)?;
    t.settled()?;

    let start = Instant::now();
    let loads = STEADY.map(|(from, to)| t.steady_load(from, to));
    let mut churn = Churn::new();
    let mut outages = Vec::new();
    let mut known = BTreeSet::new();
    for round in 0.. {
        // However slow the machine is, there is something of both.
        let has_both = tally.kills > 0 && tally.drifts > 0;
        if start.elapsed() >= if has_both { duration } else { duration * SLOWNESS } {
            break;
        }
        let changes = rng.usize(1..=CHANGES);
        for _ in 0..changes {
            churn.change(t, &mut rng)?;
        }
        tally.events += changes;
        if rng.bool() {
            steady_endpoints(t, if rng.bool() { P3 } else { P4 })?;
            tally.events += 1;
        }
        let harmless = rng.u8(..4) == 0;
        if harmless {
            t.settled()?;
        } else if (round / PHASE).is_multiple_of(2) {
            for _ in 0..rng.u8(1..=HARMS) {
                t.agent().launch()?;
                sleep(Duration::from_millis(rng.u64(..100)));
                t.agent().kill()?;
                tally.kills += 1;
            }
            t.settled()?;
        } else {
            t.settled()?;
            let from = Instant::now();
            // A harm fails if an earlier one has left it nothing to do.
            let harms = (0..rng.u8(1..=HARMS)).filter_map(|_| drift::strike(t, &mut rng).ok());
            let done: Vec<_> = harms.collect();
            tally.drifts += done.len();
            t.settled()?;
            if !done.is_empty() {
                outages.push(Outage { what: done.join("`, `"), from, to: Instant::now() });
            }
        }
        // Waiting for silence takes most of a round's time.
        let also_silent = round.is_multiple_of(4);
        for contradiction in lookup(t, &mut known, also_silent, &mut rng, &mut tally)? {
            let moment = format!("{:.1} s, seed {seed}", start.elapsed().as_secs_f64());
            println!("        after {moment}:\n{contradiction}");
            tally.lost += 1;
        }
        foreign.is_there(t)?;
    }
    for load in loads {
        let report = load.stop();
        tally.connections += report.requests();
        for FailedRequest { during, after, to, why } in &report.failures {
            let is_hit = |outage: &Outage| during.start <= outage.to && outage.from <= during.end;
            if outages.iter().any(is_hit) {
                continue;
            }
            let when = after.as_secs_f64();
            println!("        {} asked {to} after {when:.1} s, seed {seed}: {why}", report.client);
            tally.lost += 1;
        }
    }
    churn.end(t)?;
    foreign.end(t)?;
    let longest = outages.iter().max_by_key(|outage| outage.to - outage.from);
    if let Some(Outage { what, from, to }) = longest {
        let seconds = (*to - *from).as_secs_f64();
        println!("        the longest mending took {seconds:.1} s, of `{what}`");
    }
    Ok(tally)
}

/// The Service that is there all the time.
fn steady() -> ServiceBuilder {
    let steady = service("soak/steady").cluster_ip("10.96.40.1").cluster_ip("fd00:96::40:1");
    let steady = steady.port("tcp", 80).node_port(31_499).udp("udp", 80);
    steady.load_balancer_ip("203.0.113.140")
}

/// One of its endpoints stays, another is not always the same.
fn steady_endpoints(t: &mut TestContext<'_>, other: Host) -> Step {
    for slice in endpoints_of_both("soak/steady") {
        let slice = slice.port("tcp", 8080).udp("udp", 8080);
        t.apply(slice.ready_on(P1).ready_on(other))?;
    }
    Ok(())
}

/// Clients lookup at some of all front ends that there are or have been. Returns what was not as
/// explained.
fn lookup(
    t: &mut TestContext<'_>,
    known: &mut BTreeSet<VirtualAddress>,
    also_silent: bool,
    rng: &mut Rng,
    tally: &mut EndpointCounts,
) -> Step<Vec<String>> {
    let programs = programs(t)?;
    for (_, program) in programs.services() {
        // A node port is at each address that takes them.
        known.extend(program.frontends.iter().flat_map(|front| {
            let ips = programs.node().node_port_ips.iter().copied();
            let family = front.address.family();
            let ips =
                ips.filter(|ip| front.address.ip.is_unspecified() && Family::of(*ip) == family);
            let at_node: Vec<_> = ips.map(|ip| front.address.at(ip)).collect();
            if at_node.is_empty() { vec![front.address] } else { at_node }
        }));
    }
    let all: Vec<_> = product(CLIENTS, known.iter().copied()).collect();
    let mut pairs: Vec<Pair> = (0..PAIRS)
        .map(|_| {
            let (from, to) = all[rng.usize(..all.len())];
            Pair::new(&programs, t.host(N1), from, &to)
        })
        .collect::<io::Result<_>>()?;
    pairs.retain(|pair| also_silent || pair.is_told());
    let clients = Clients::new(CLIENTS.map(|from| (from, Arc::clone(t.host(from)))));
    let met = clients.meet(&pairs);
    tally.connections += met.iter().map(|(_, met)| met.len()).sum::<usize>();
    Ok(met.iter().filter_map(|(pair, met)| contradiction(pair, met)).collect())
}
