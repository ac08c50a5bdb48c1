//! From objects in memory to the kernel's last acknowledgement, compared with a raw replay of the
//! same IPVS messages on an equal kernel.

use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::Ipvs;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event};
use kube_ipvs_core::plan::SampleTargets;

use crate::cluster::{Size, events, externally, frontend, optionally, service_key, slice};
use crate::figure::Figure;
use crate::namespace::{enter, on_node, on_nodes};
use crate::work::{
    Replay, added_endpoints, engine, ipvs_operations, observe_pools, settle, settle_ipvs,
};
use crate::{ROUNDS, Result, median};

const LARGE: Size = Size { services: 10_000, slices: 1, endpoints: 10 };
const EXTERNAL: &str =
    "the same with a load balancer's address and a node port each; baseline without";
/// The number of timed single changes.
const CHANGES: u32 = 300;
/// The slices of a burst.
const BURST: u32 = 1_000;
/// The number of bursts, each of other Services.
const BURSTS: u32 = 9;

type Cluster = fn(Size) -> Vec<Event>;

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns the duration of `work`; the result is dropped after the clock has stopped.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let start = Instant::now();
    let made = work()?;
    let took = milliseconds(start.elapsed());
    drop(made);
    Ok(took)
}

/// A cluster with ClusterIPs only.
fn internal() -> Vec<Event> {
    events(LARGE)
}

/// The same cluster with a load balancer IP and a node port per Service.
fn external() -> Vec<Event> {
    externally(events(LARGE))
}

/// Returns the best of several rounds.
fn best(measure: impl Fn() -> Result<f64> + Copy + Send + 'static) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        least = least.min(on_node(measure)?);
    }
    Ok(least)
}

/// Programs an empty kernel.
pub(crate) fn cold_start() -> Result<Vec<Figure>> {
    let replay = best(|| {
        let mut replay = Replay::batched(&ipvs_operations(&mut engine(events(LARGE)))?)?;
        timed(|| replay.run())
    })?;
    let ipvs = best(|| {
        let (events, mut ipvs) = (events(LARGE), Ipvs::open()?);
        timed(|| {
            let mut engine = engine(events);
            settle_ipvs(&mut engine, &mut ipvs)?;
            Ok(engine)
        })
    })?;
    let all = |events: fn() -> Vec<Event>| {
        best(move || {
            let (events, mut kernel) = (events(), Kernel::open()?);
            timed(|| {
                let mut engine = engine(events);
                settle(&mut engine, &mut kernel)?;
                Ok(engine)
            })
        })
    };
    let [all, external] = [all(internal)?, all(external)?];
    let what = "10,000 × 10 from memory into an empty kernel";
    Ok(vec![
        Figure::new("cold_start_ipvs", format!("{what}, IPVS"), "ms", ipvs, replay),
        Figure::new(
            "cold_start_all",
            format!("{what}, with routes and nf_tables; baseline IPVS alone"),
            "ms",
            all,
            replay,
        ),
        Figure::new("cold_start_external", EXTERNAL, "ms", external, all),
    ])
}

/// Returns an engine and a kernel with the state of a cluster.
fn synced(events: Vec<Event>) -> Result<(Engine, Kernel)> {
    let mut kernel = Kernel::open()?;
    let mut engine = engine(events);
    settle(&mut engine, &mut kernel)?;
    Ok((engine, kernel))
}

/// A cluster that changes, on one node.
struct Changing<'a> {
    node: &'a str,
    size: Size,
    engine: Engine,
    kernel: Kernel,
    bare: Replay,
}

impl<'a> Changing<'a> {
    fn new(node: &'a str, services: u32, cluster: Cluster) -> Result<Self> {
        enter(node)?;
        let size = Size { services, slices: 1, endpoints: 5 };
        let (engine, kernel) = synced(cluster(size))?;
        let bare = Replay::single(&added_endpoints((0..CHANGES).map(|at| at % services)))?;
        Ok(Self { node, size, engine, kernel, bare })
    }

    /// Adds an endpoint and waits for the acknowledgement; then sends a bare message.
    fn change(&mut self, at: u32) -> Result<[f64; 2]> {
        enter(self.node)?;
        let services = self.size.services;
        let change = slice(self.size, at % services, 0, 6 + at / services);
        let ours = timed(|| {
            self.engine.handle_event(Event::Slice(Change::Apply(change)));
            match settle(&mut self.engine, &mut self.kernel)? {
                1 => Ok(()),
                operations => Err(format!("a change took {operations} operations").into()),
            }
        })?;
        Ok([ours, timed(|| self.bare.send(at as usize))?])
    }
}

/// The compared cluster sizes.
const COMPARED: [(&str, u32, Cluster); 5] = [
    ("one_change_100", 100, events),
    ("one_change_10000", 10_000, events),
    ("one_change_external", 10_000, |size| externally(events(size))),
    ("one_change_options", 10_000, |size| optionally(events(size), CHANGES)),
    ("one_change_50000", 50_000, events),
];

/// Changes each cluster in turn: the cost of a real server in the kernel's allocator depends on all
/// earlier ones, in any namespace.
pub(crate) fn one_changes() -> Result<Vec<Figure>> {
    let times = on_nodes(|nodes: [&str; COMPARED.len()]| {
        let mut clusters = Vec::new();
        for (node, (_, services, cluster)) in nodes.into_iter().zip(COMPARED) {
            clusters.push(Changing::new(node, services, cluster)?);
        }
        let mut times = vec![[Vec::new(), Vec::new()]; clusters.len()];
        for at in 0..CHANGES {
            for (cluster, times) in clusters.iter_mut().zip(&mut times) {
                let [ours, bare] = cluster.change(at)?;
                times[0].push(ours);
                times[1].push(bare);
            }
        }
        Ok(times)
    })?;
    let mut figures = Vec::new();
    for ((name, services, _), [ours, bare]) in COMPARED.into_iter().zip(times) {
        let others = if name == "one_change_options" { ", all others with options" } else { "" };
        let what = format!(
            "one endpoint more of {services} services × 5{others}; baseline a bare message"
        );
        figures.push(Figure::new(name, what, "ms", median(ours)?, median(bare)?));
    }
    if let [small, .., large] = figures.as_slice() {
        let what = "the same at 50,000 services; baseline at 100";
        let flatness = Figure::new("one_change_flatness", what, "ms", large.ours(), small.ours());
        figures.push(flatness);
    }
    Ok(figures)
}

/// Changes many slices before the engine is polled, and replays the resulting operations on another
/// node with the same state. The two take turns at going first: with each real server, in any
/// namespace, the kernel gets faster at adding another.
pub(crate) fn burst() -> Result<Vec<Figure>> {
    let [ours, bare] = on_nodes(|[node, twin]: [&str; 2]| {
        enter(twin)?;
        let (mut replayed, _) = synced(internal())?;
        enter(node)?;
        let (mut engine, mut kernel) = synced(internal())?;
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..BURSTS {
            let changes = || -> Vec<_> {
                let services = round * BURST..(round + 1) * BURST;
                let change = |at| slice(LARGE, at, 0, LARGE.endpoints + 1);
                services.map(change).map(Change::Apply).map(Event::Slice).collect()
            };
            changes().into_iter().for_each(|event| replayed.handle_event(event));
            let operations = ipvs_operations(&mut replayed)?;
            for is_ours in [round % 2 == 0, round % 2 != 0] {
                if is_ours {
                    enter(node)?;
                    let changes = changes();
                    times[0].push(timed(|| {
                        changes.into_iter().for_each(|event| engine.handle_event(event));
                        settle(&mut engine, &mut kernel)
                    })?);
                } else {
                    enter(twin)?;
                    let mut replay = Replay::batched(&operations)?;
                    times[1].push(timed(|| replay.run())?);
                }
            }
        }
        Ok(times)
    })?;
    let what = "1,000 slices of 10,000 with an endpoint more, at once";
    Ok(vec![Figure::new("burst_1000", what, "ms", median(ours)?, median(bare)?)])
}

/// Measures a kernel that is already in the desired state, at a start, at an audit and at a round
/// of audits of IPVS; also the time to read it, and its number of servers.
fn held(events: fn() -> Vec<Event>) -> Result<[f64; 5]> {
    on_node(move || {
        let (mut running, mut kernel) = synced(events())?;
        let pools = kernel.observe()?.pools;
        let servers = pools.iter().map(|pool| 1 + pool.backends.len()).sum::<usize>();
        let addresses: Vec<_> = pools.iter().map(|pool| pool.server.address).collect();
        let mut least = [f64::INFINITY; 4];
        for _ in 0..ROUNDS {
            let bare = timed(|| Ok(kernel.observe()?))?;
            let events = events();
            let ours = timed(|| {
                let mut engine = engine(events);
                unchanged(settle(&mut engine, &mut kernel)?)?;
                Ok(engine)
            })?;
            running.handle_drift(Instant::now() + Duration::from_secs(1));
            sleep(Duration::from_secs(2));
            let audit = timed(|| unchanged(settle(&mut running, &mut kernel)?))?;
            let round = timed(|| {
                observe_pools(&mut running, &mut kernel, addresses.clone())?;
                unchanged(settle(&mut running, &mut kernel)?)
            })?;
            for (least, time) in least.iter_mut().zip([ours, audit, round, bare]) {
                *least = least.min(time);
            }
        }
        let [ours, audit, round, bare] = least;
        Ok([ours, audit, round, bare, servers as f64])
    })
}

pub(crate) fn restart() -> Result<Vec<Figure>> {
    let [ours, audit, round, bare, servers] = held(internal)?;
    let [external, _, _, _, more_servers] = held(external)?;
    let what = "10,000 × 10 in memory and in the kernel; baseline reading the kernel";
    let again = "an audit of the same; baseline reading the kernel";
    let parts =
        "all parts of an audit of IPVS, which take 30 s or a hundred times that; same baseline";
    let counted = "virtual servers and real servers of such a kernel; baseline without";
    Ok(vec![
        Figure::new("restart", what, "ms", ours, bare),
        Figure::new("audit", again, "ms", audit, bare),
        Figure::new("audit_round", parts, "ms", round, bare),
        Figure::new("restart_external", EXTERNAL, "ms", external, ours),
        Figure::new("servers_external", counted, "", more_servers, servers),
    ])
}

/// Reads the counters by which endpoints are ejected.
pub(crate) fn eject() -> Result<Vec<Figure>> {
    const WATCHED: u32 = 100;
    let [servers, real_servers] = on_node(|| {
        synced(internal())?;
        let mut ipvs = Ipvs::open()?;
        let real_servers = (0..WATCHED).map(frontend).collect();
        let targets = [
            SampleTargets { servers: true, ..SampleTargets::default() },
            SampleTargets { real_servers, ..SampleTargets::default() },
        ];
        let mut least = [f64::INFINITY; 2];
        for _ in 0..ROUNDS {
            for (least, targets) in least.iter_mut().zip(&targets) {
                *least = least.min(timed(|| Ok(ipvs.sample(targets)?))?);
            }
        }
        Ok(least)
    })?;
    let what = "the counters of 10,000 virtual servers, once a second if any service has eject; \
                baseline the real servers of 100 × 10, twice a second with new connections";
    Ok(vec![Figure::new("eject_sample", what, "ms", servers, real_servers)])
}

fn unchanged(operations: usize) -> Result<()> {
    if operations == 0 { Ok(()) } else { Err(format!("{operations} operations").into()) }
}

/// Removes most Services, and adds endpoints to the others.
pub(crate) fn delete_then_add() -> Result<Vec<Figure>> {
    const LEFT: Size = Size { services: 100, ..LARGE };
    const ADDED: u32 = 1_000;
    let ours = on_node(|| {
        let (mut engine, mut kernel) = synced(internal())?;
        for index in LEFT.services..LARGE.services {
            engine.handle_event(Event::Service(Change::Delete(service_key(index))));
        }
        settle(&mut engine, &mut kernel)?;
        let mut replay =
            Replay::batched(&added_endpoints((0..ADDED).map(|at| at % LEFT.services)))?;
        timed(|| replay.run())
    })?;
    let fresh = on_node(|| {
        synced(events(LEFT))?;
        let mut replay =
            Replay::batched(&added_endpoints((0..ADDED).map(|at| at % LEFT.services)))?;
        timed(|| replay.run())
    })?;
    let what = "1,000 real servers after 99,000 have gone; baseline without that";
    Ok(vec![Figure::new("delete_then_add", what, "ms", ours, fresh)])
}
