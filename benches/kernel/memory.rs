//! How much memory state, DesiredState and reconciler take, once everything is in the kernel, and after a
//! day's changes: each in a process of its own that keeps nothing else.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event};

use crate::cluster::{Size, dual_stack, events, slice};
use crate::figure::Figure;
use crate::namespace::on_node;
use crate::work::{engine, settle};
use crate::{Result, empty_kernel};

/// The argument by which this program becomes such a process.
pub(crate) const ARGUMENT: &str = "resident";

/// What is held, by its name in the table; whether of both families; the most MB that it may take.
const HOLDINGS: [(&str, Size, bool, f64); 2] = [
    ("rss_10000x10_mb", Size { services: 10_000, slices: 1, endpoints: 10 }, false, 35.0),
    ("rss_50000x5_mb", Size { services: 50_000, slices: 1, endpoints: 5 }, true, 150.0),
];

/// Changes a second before that is told.
const A_SECOND: u32 = 50;

/// The one that changes a million times.
const CHURNED: &str = "rss_churned_mb";
/// Changes of a day, and the time from one to the next.
const CHANGES: u32 = 1_000_000;
const BETWEEN: Duration = Duration::from_micros(86_400);

pub(crate) fn resident() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, size, is_dual, target) in HOLDINGS {
        let [megabytes] = on_node(move || told_by(name))?;
        let families = if is_dual { " of both families" } else { "" };
        let Size { services, endpoints, .. } = size;
        let what = format!(
            "resident after 10 s of {A_SECOND} changes each, {services} × {endpoints}{families}; \
             baseline the target"
        );
        figures.push(Figure::new(name, what, "MB", megabytes, target));
    }
    let [before, after] = told_by(CHURNED)?;
    let what = "10,000 × 10 resident after a million changes; baseline before them";
    figures.push(Figure::new(CHURNED, what, "MB", after, before));
    Ok(figures)
}

/// What a process of that name prints.
fn told_by<const N: usize>(name: &str) -> Result<[f64; N]> {
    let done = Command::new(std::env::current_exe()?).args([ARGUMENT, name]).output()?;
    let told = String::from_utf8(done.stdout)?;
    let numbers: Vec<f64> = told.split_whitespace().flat_map(str::parse).collect();
    let complaint = |_| format!("{name}: {told}{}", String::from_utf8_lossy(&done.stderr));
    Ok(numbers.try_into().map_err(complaint)?)
}

/// The process: prints how many MB it takes.
#[allow(clippy::print_stdout)]
pub(crate) fn hold(name: &str) -> Result<()> {
    // As the agent does.
    rustix::thread::disable_transparent_huge_pages(true)?;
    if name == CHURNED {
        return churn();
    }
    let found = HOLDINGS.into_iter().find(|(held, ..)| *held == name);
    let (_, size, is_dual, _) = found.ok_or("no such holding")?;
    let mut engine = engine(if is_dual { dual_stack(size) } else { events(size) });
    let mut kernel = Kernel::open()?;
    settle(&mut engine, &mut kernel)?;
    // The allocator gives back what the first sync took and no longer needs as it goes on being
    // used.
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

/// The same for a process that keeps everything as it changes, on a kernel that does everything.
#[allow(clippy::print_stdout)]
fn churn() -> Result<()> {
    let (_, size, ..) = HOLDINGS[0];
    let start = Instant::now();
    let mut engine = engine(events(size));
    let settle = |engine: &mut Engine, at: u32| empty_kernel::settle(engine, start + at * BETWEEN);
    settle(&mut engine, 0);
    let mut before = f64::INFINITY;
    for at in 0..CHANGES {
        // After some changes, so that what the first sync took has been given back.
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
    // As it was in the beginning.
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

/// What is resident of this process.
fn megabytes() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}
