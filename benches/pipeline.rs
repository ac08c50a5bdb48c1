//! The cost of a change from event to operations, without a kernel. It must be the same in a small
//! and in a large cluster.

mod cluster;

use std::hint::black_box;
use std::time::{Duration, Instant};

use cluster::{Size, events, slice};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event, Settings};
use kube_ipvs_core::testing::settle_on_empty;

fn built(events: Vec<Event>, now: Instant) -> (Engine, usize) {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    let operations = settle_on_empty(&mut engine, now);
    (engine, operations)
}

/// One endpoint is added or removed in one slice after another.
fn one_slice_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one slice changes");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    let sizes = [
        ("1,000 services of 10", Size { services: 1_000, slices: 1, endpoints: 10 }),
        ("10,000 services of 10", Size { services: 10_000, slices: 1, endpoints: 10 }),
        ("50,000 services of 10", Size { services: 50_000, slices: 1, endpoints: 10 }),
        ("a service of 100 in 1 slice", Size { services: 1, slices: 1, endpoints: 100 }),
        ("a service of 5,000 in 50 slices", Size { services: 1, slices: 50, endpoints: 100 }),
    ];
    for (name, size) in sizes {
        let now = Instant::now();
        let (mut engine, _) = built(events(size), now);
        let mut round = 0;
        let next = |round: &mut u32| {
            let total = size.services * size.slices;
            // Far apart, so that caches do not help unrealistically; each lap reverses the change.
            let (lap, at) = (*round / total, (*round % total).wrapping_mul(7_919) % total);
            *round += 1;
            let endpoints = size.endpoints + (lap + 1) % 2;
            slice(size, at / size.slices, at % size.slices, endpoints)
        };
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter_batched(
                || Event::Slice(Change::Apply(next(&mut round))),
                |event| {
                    engine.handle_event(event);
                    assert_ne!(settle_on_empty(&mut engine, now), 0);
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// From all objects to all operations.
fn full_build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first sync");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let size = Size { services: 10_000, slices: 1, endpoints: 10 };
    let events = events(size);
    group.bench_function("10,000 services of 10", |bencher| {
        bencher.iter_batched(
            || events.clone(),
            |events| black_box(built(events, Instant::now())),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, one_slice_change, full_build);
criterion_main!(benches);
