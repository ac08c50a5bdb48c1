//! Memory allocations of one change in a small and in a large cluster. Prints lines of the table
//! that `benches/kernel` begins.

mod cluster;
#[allow(dead_code, reason = "only a table is printed here")]
#[path = "kernel/figure.rs"]
mod figure;

use std::alloc::System;
use std::time::Instant;

use cluster::{Size, events, slice};
use figure::Figure;
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event, Settings};
use kube_ipvs_core::testing::settle_on_empty;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CHANGES: u32 = 1_000;

/// Counts the allocations while slices get another endpoint, one slice after the other.
fn changes(services: u32) -> Stats {
    let size = Size { services, slices: 1, endpoints: 10 };
    let now = Instant::now();
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    events(size).into_iter().for_each(|event| engine.handle_event(event));
    settle_on_empty(&mut engine, now);
    let changes: Vec<_> = (0..CHANGES).map(|at| slice(size, at, 0, size.endpoints + 1)).collect();
    let region = Region::new(ALLOCATOR);
    for change in changes {
        engine.handle_event(Event::Slice(Change::Apply(change)));
        settle_on_empty(&mut engine, now);
    }
    region.change()
}

#[allow(clippy::print_stdout)]
fn main() {
    let (small, large) = (changes(1_000), changes(50_000));
    let each = |sum: usize| sum as f64 / f64::from(CHANGES);
    let count = |stats: &Stats| each(stats.allocations + stats.reallocations);
    let what = "allocations of one endpoint more at 50,000 services of 10; baseline at 1,000";
    println!("{}", Figure::new("allocations", what, "", count(&large), count(&small)));
    let bytes = |stats: &Stats| each(stats.bytes_allocated) / 1e3;
    println!(
        "{}",
        Figure::new("allocated", "what they come to", "kB", bytes(&large), bytes(&small))
    );
}
