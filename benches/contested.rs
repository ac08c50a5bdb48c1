//! The cost of many front ends of one Service, and of many Services that request the same ones,
//! from event to operations without a kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Change, Event, Protocol, Service, ServiceKey, ServicePort, Settings};
use kube_ipvs_core::testing::settle_on_empty;

/// Services that each request the same front ends.
#[derive(Clone, Copy)]
struct Contest {
    services: u32,
    front_ends: u32,
}

fn address(base: [u8; 4], index: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + index).into()
}

fn key(index: u32) -> ServiceKey {
    ServiceKey::new("default", &format!("rival-{index:04}"))
}

/// Returns a Service; the one with the greatest index is the oldest.
fn service(contest: Contest, index: u32) -> Service {
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    Service {
        created: (contest.services - index).into(),
        cluster_ips: [address([10, 96, 0, 1], index)].into(),
        ports: [port].into(),
        external_ips: (0..contest.front_ends).map(|at| address([198, 18, 0, 0], at)).collect(),
        ..Service::named(key(index))
    }
}

fn engine(contest: Contest, now: Instant) -> Engine {
    let mut engine =
        Engine::new(&Settings { drain_period: Duration::ZERO, ..Settings::for_node("n1") }, None);
    let services = (0..contest.services).map(|index| service(contest, index)).collect();
    engine.handle_event(Event::Service(Change::Replace(services)));
    engine.handle_event(Event::Slice(Change::Replace(Vec::new())));
    engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
    engine.handle_event(Event::Node(None));
    settle_on_empty(&mut engine, now);
    engine
}

/// The owner of the front ends is deleted and created again.
fn the_owner_goes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("the owner goes and comes back");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for (name, contest) in [
        ("1 service of 1,024 front ends", Contest { services: 1, front_ends: 1_024 }),
        ("1 service of 16,384 front ends", Contest { services: 1, front_ends: 16_384 }),
        ("200 services for 1 front end", Contest { services: 200, front_ends: 1 }),
        ("2,000 services for 1 front end", Contest { services: 2_000, front_ends: 1 }),
        ("3 services for 16,384 front ends", Contest { services: 3, front_ends: 16_384 }),
        ("30 services for 16,384 front ends", Contest { services: 30, front_ends: 16_384 }),
    ] {
        let now = Instant::now();
        let mut engine = engine(contest, now);
        let owner = service(contest, contest.services - 1);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                engine.handle_event(Event::Service(Change::Delete(owner.key.clone())));
                settle_on_empty(&mut engine, now);
                engine.handle_event(Event::Service(Change::Apply(owner.clone())));
                settle_on_empty(&mut engine, now);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, the_owner_goes);
criterion_main!(benches);
