//! From all objects in memory to everything in the kernel, against a raw replay of the same IPVS
//! messages in the same run. Needs a kernel with IPVS and root; each measurement has a network
//! namespace of its own, because a kernel that has just removed real servers is slower to add some.

mod cluster;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Size, events, slice};
use kube_ipvs::engine::{Engine, Work};
use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::{Ipvs, encode};
use kube_ipvs::kernel::netlink::{Batch, Protocol, Socket};
use kube_ipvs::model::{Change, Event, Settings};
use kube_ipvs::plan::{Operation, ServerOperation};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Bytes per send of the replay, as the agent has it.
const CHUNK: usize = 64 << 10;
/// Each figure is the best of so many.
const ROUNDS: usize = 3;
/// How many single changes are timed.
const CHANGES: u32 = 200;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    // Criterion's flags, which `cargo bench` passes on, mean nothing here.
    if let Err(error) = in_namespace(|| Ok(Ipvs::open()?)) {
        println!("kernel_sync: skipped: {error}");
        return Ok(());
    }
    println!("{:<44} {:>10} {:>10} {:>6}", "", "ours", "baseline", "ratio");
    for services in [100, 1_000, 5_000] {
        let size = Size { services, slices: 1, endpoints: 10 };
        let replay = best(|| in_namespace(move || replay(size)))?;
        let whole = best(|| in_namespace(move || first_sync(size)))?;
        line(&format!("first sync, {services} services of 10"), whole, replay);
    }
    let small = in_namespace(|| one_change(100))?;
    let large = in_namespace(|| one_change(5_000))?;
    line("one endpoint more, 5,000 services over 100", large, small);
    Ok(())
}

#[allow(clippy::print_stdout)]
fn line(what: &str, ours: Duration, baseline: Duration) {
    let ratio = ours.as_secs_f64() / baseline.as_secs_f64();
    let (ours, baseline) = (ours.as_secs_f64() * 1e3, baseline.as_secs_f64() * 1e3);
    println!("{what:<44} {ours:>7.2} ms {baseline:>7.2} ms {ratio:>6.2}");
}

fn best(measure: impl Fn() -> Result<Duration>) -> Result<Duration> {
    let mut least = measure()?;
    for _ in 1..ROUNDS {
        least = least.min(measure()?);
    }
    Ok(least)
}

/// Engine, nf_tables, routes and IPVS, from objects in memory to the last acknowledgement.
fn first_sync(size: Size) -> Result<Duration> {
    let mut kernel = Kernel::open()?;
    let events = events(size);
    let start = Instant::now();
    let mut engine = engine(events);
    work(&mut engine, &mut kernel)?;
    Ok(start.elapsed())
}

/// The same IPVS messages, encoded before the clock runs.
fn replay(size: Size) -> Result<Duration> {
    let mut ipvs = Ipvs::open()?;
    let family = ipvs.family();
    let mut engine = engine(events(size));
    let mut chunks = vec![Batch::default()];
    for operation in wanted(&mut engine) {
        if chunks.last().is_none_or(|chunk| chunk.size() >= CHUNK) {
            chunks.push(Batch::default());
        }
        if let Some(chunk) = chunks.last_mut() {
            encode(chunk, family, &operation);
        }
    }
    ipvs.info()?;
    let mut socket = Socket::open(Protocol::Generic)?;
    let start = Instant::now();
    for chunk in &mut chunks {
        let last = chunk.len() - 1;
        for answer in socket.transact(chunk, last)? {
            answer.ok_or("an answer was lost")?.map_err(|error| error.to_string())?;
        }
    }
    Ok(start.elapsed())
}

/// From one slice event to the acknowledgement of the one operation that it needs, on average.
fn one_change(services: u32) -> Result<Duration> {
    let size = Size { services, slices: 1, endpoints: 10 };
    let mut kernel = Kernel::open()?;
    let mut engine = engine(events(size));
    work(&mut engine, &mut kernel)?;
    let changes: Vec<_> = (0..CHANGES).map(|at| slice(size, at % services, 0, 11)).collect();
    let count = u32::try_from(changes.len())?;
    let start = Instant::now();
    for change in changes {
        engine.handle_event(Event::Slice(Change::Apply(change)));
        work(&mut engine, &mut kernel)?;
    }
    Ok(start.elapsed() / count)
}

fn engine(events: Vec<Event>) -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    engine
}

/// Does all the work that there is, as the agent does.
fn work(engine: &mut Engine, kernel: &mut Kernel) -> Result<()> {
    while let Some(work) = engine.poll_work(Instant::now()) {
        match work {
            Work::Observe => engine.handle_observed(kernel.observe()?, Instant::now()),
            Work::ObservePools(addresses) => {
                let pools = kernel.observe_pools(&addresses)?;
                engine.handle_observed_pools(&addresses, pools);
            }
            Work::Count(_) => {}
            Work::Apply(plan) => {
                let outcomes = kernel.apply(plan.operations());
                if let Some(failure) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
                    return Err(failure.to_string().into());
                }
                engine.handle_outcomes(&plan, outcomes, Instant::now());
            }
        }
    }
    Ok(())
}

/// The IPVS operations that an empty kernel needs.
fn wanted(engine: &mut Engine) -> Vec<ServerOperation> {
    let now = Instant::now();
    let mut operations = Vec::new();
    while let Some(work) = engine.poll_work(now) {
        match work {
            Work::Observe => engine.handle_observed(Default::default(), now),
            Work::ObservePools(_) => return operations,
            Work::Count(_) => {}
            Work::Apply(plan) => {
                operations.extend(plan.operations().iter().filter_map(Operation::as_server));
                let done = plan.operations().iter().map(|_| Ok(())).collect();
                engine.handle_outcomes(&plan, done, now);
            }
        }
    }
    operations
}

/// Runs in a network namespace of its own.
fn in_namespace<T: Send + 'static>(
    measure: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    const NAME: &str = "kube-ipvs-bench";
    let ip = |arguments: &str| -> Result<()> {
        let done = Command::new("ip").args(arguments.split(' ')).status()?;
        if done.success() { Ok(()) } else { Err(format!("ip {arguments}: {done}").into()) }
    };
    ip(&format!("netns add {NAME}"))?;
    ip(&format!("-n {NAME} link set lo up"))?;
    ip(&format!("-n {NAME} link add node type dummy"))?;
    ip(&format!("-n {NAME} address add 192.0.2.1/24 dev node"))?;
    ip(&format!("-n {NAME} link set node up"))?;
    let inside = thread::spawn(move || {
        let namespace = File::open(format!("/run/netns/{NAME}"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        measure()
    });
    let measured = inside.join();
    ip(&format!("netns delete {NAME}"))?;
    measured.map_err(|_| "the measurement panicked")?
}
