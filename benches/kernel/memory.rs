//! How much memory state, Programs and ledger take, once everything is in the kernel: in a process
//! of its own that keeps nothing else.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::model::{Change, Event};

use crate::Result;
use crate::cluster::{Size, dual_stack, events, slice};
use crate::figure::Figure;
use crate::namespace::on_node;
use crate::work::{engine, settle};

/// The argument by which this program becomes such a process.
pub(crate) const ARGUMENT: &str = "resident";

/// What is held, by its name in the table; whether of both families; the most MB that it may take.
const HOLDINGS: [(&str, Size, bool, f64); 2] = [
    ("rss_10000x10_mb", Size { services: 10_000, slices: 1, endpoints: 10 }, false, 60.0),
    ("rss_50000x5_mb", Size { services: 50_000, slices: 1, endpoints: 5 }, true, 200.0),
];

pub(crate) fn resident() -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, size, is_dual, target) in HOLDINGS {
        let megabytes = on_node(move || {
            let done = Command::new(std::env::current_exe()?).args([ARGUMENT, name]).output()?;
            let told = String::from_utf8(done.stdout)?;
            Ok(told
                .trim()
                .parse::<f64>()
                .map_err(|_| format!("{name}: {told}{}", String::from_utf8_lossy(&done.stderr)))?)
        })?;
        let families = if is_dual { " of both families" } else { "" };
        let Size { services, endpoints, .. } = size;
        let what =
            format!("resident after 10 s, {services} × {endpoints}{families}; baseline the target");
        figures.push(Figure::new(name, what, "MB", megabytes, target));
    }
    Ok(figures)
}

/// The process: prints how many MB it takes.
#[allow(clippy::print_stdout)]
pub(crate) fn hold(name: &str) -> Result<()> {
    let found = HOLDINGS.into_iter().find(|(held, ..)| *held == name);
    let (_, size, is_dual, _) = found.ok_or("no such holding")?;
    let mut engine = engine(if is_dual { dual_stack(size) } else { events(size) });
    let mut kernel = Kernel::open()?;
    settle(&mut engine, &mut kernel)?;
    // The allocator gives back what the first sync took and no longer needs when it is next used
    // after a while.
    for service in 0..10 {
        sleep(Duration::from_secs(1));
        let change = slice(size, service, 0, size.endpoints - 1);
        engine.handle_event(Event::Slice(Change::Apply(change)));
        settle(&mut engine, &mut kernel)?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    println!("{}", kibibytes * 1024.0 / 1e6);
    drop(engine);
    Ok(())
}
