//! The memory of state, desired state and reconciler once everything is in the kernel, and after a
//! day's changes. Each is measured in a separate process.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event};
use kube_ipvs_core::testing::settle_on_empty;

use crate::Result;
use crate::cluster::{Size, dual_stack, events, slice};
use crate::figure::Figure;
use crate::namespace::on_node;
use crate::work::{engine, settle};

/// The argument that makes this program such a process.
pub(crate) const ARGUMENT: &str = "resident";

/// The measurements: name in the table, size, whether dual-stack, and target in MB.
const HOLDINGS: [(&str, Size, bool, f64); 2] = [
    ("rss_10000x10_mb", Size { services: 10_000, slices: 1, endpoints: 10 }, false, 35.0),
    ("rss_50000x5_mb", Size { services: 50_000, slices: 1, endpoints: 5 }, true, 150.0),
];

/// Changes per second before the measurement.
const A_SECOND: u32 = 50;

/// The measurement after a million changes.
const CHURNED: &str = "rss_churned_mb";
/// The changes of a day, and their distance.
const CHANGES: u32 = 1_000_000;
const BETWEEN: Duration = Duration::from_micros(86_400);

pub(crate) fn resident() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, size, is_dual, target) in HOLDINGS {
        let [megabytes] = on_node(move || output_of(name))?;
        let families = if is_dual { " of both families" } else { "" };
        let Size { services, endpoints, .. } = size;
        let what = format!(
            "resident after 10 s of {A_SECOND} changes each, {services} × {endpoints}{families}; \
             baseline the target"
        );
        figures.push(Figure::new(name, what, "MB", megabytes, target));
    }
    let [before, after] = output_of(CHURNED)?;
    let what = "10,000 × 10 resident after a million changes; baseline before them";
    figures.push(Figure::new(CHURNED, what, "MB", after, before));
    Ok(figures)
}

/// Returns the output of the process for a measurement.
fn output_of<const N: usize>(name: &str) -> Result<[f64; N]> {
    let done = Command::new(std::env::current_exe()?).args([ARGUMENT, name]).output()?;
    let output = String::from_utf8(done.stdout)?;
    let numbers: Vec<f64> = output.split_whitespace().flat_map(str::parse).collect();
    let error = |_| format!("{name}: {output}{}", String::from_utf8_lossy(&done.stderr));
    Ok(numbers.try_into().map_err(error)?)
}

/// Runs as the process: prints its memory in MB.
#[allow(clippy::print_stdout)]
pub(crate) fn hold(name: &str) -> Result<()> {
    // As in the agent.
    rustix::thread::disable_transparent_huge_pages(true)?;
    if name == CHURNED {
        return churn();
    }
    let found = HOLDINGS.into_iter().find(|(held, ..)| *held == name);
    let (_, size, is_dual, _) = found.ok_or("no such holding")?;
    let mut engine = engine(if is_dual { dual_stack(size) } else { events(size) });
    let mut kernel = Kernel::open()?;
    settle(&mut engine, &mut kernel)?;
    // In use, the allocator returns the memory that only the first sync needed.
    for second in 0..10 {
        sleep(Duration::from_secs(1));
        for service in second * A_SECOND..(second + 1) * A_SECOND {
            let change = slice(size, service, 0, size.endpoints - 1);
            engine.handle_event(Event::Slice(Change::Apply(change)));
            settle(&mut engine, &mut kernel)?;
        }
    }
    println!("{}", megabytes()?);
    drop(engine);
    Ok(())
}

/// Measures a process whose objects change all the time, with an empty kernel.
#[allow(clippy::print_stdout)]
fn churn() -> Result<()> {
    let (_, size, ..) = HOLDINGS[0];
    let start = Instant::now();
    let mut engine = engine(events(size));
    let settle = |engine: &mut Engine, at: u32| settle_on_empty(engine, start + at * BETWEEN);
    settle(&mut engine, 0);
    let mut before = f64::INFINITY;
    for at in 0..CHANGES {
        // After some changes the allocator has returned the memory of the first sync.
        if at == CHANGES / 100 {
            sleep(Duration::from_secs(1));
            before = megabytes()?;
        }
        let service = at.wrapping_mul(7_919) % size.services;
        let event = match at % 10 {
            0 => Event::Slice(Change::Delete(slice(size, service, 0, 0).key)),
            _ => Event::Slice(Change::Apply(slice(size, service, 0, 6 + at % 9))),
        };
        engine.handle_event(event);
        settle(&mut engine, at);
    }
    // Back to the initial objects.
    for service in 0..size.services {
        let event = Change::Apply(slice(size, service, 0, size.endpoints));
        engine.handle_event(Event::Slice(event));
        settle(&mut engine, CHANGES + service);
    }
    settle(&mut engine, 2 * CHANGES);
    sleep(Duration::from_secs(1));
    println!("{before} {}", megabytes()?);
    Ok(())
}

/// Returns the resident memory of this process.
fn megabytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
