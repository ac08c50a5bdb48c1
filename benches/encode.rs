//! The cost of writing and reading IPVS messages in sends of 64 KiB.
//!
//! The kernel takes 0.6 µs or more for the cheapest of these operations.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kube_ipvs::kernel::ipvs::command;
use kube_ipvs_core::model::{Backend, Protocol, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::ServerOperation;
use netlink_ipvs::ipvs::encode;
use netlink_ipvs::{Batch, attributes, messages};

/// About as many operations as one send contains.
const OPERATIONS: u16 = 512;

fn additions(ip: fn(u16) -> IpAddr) -> Vec<ServerOperation> {
    let server = VirtualAddress { ip: ip(0), port: 443, protocol: Protocol::Tcp };
    let backend = |index| Backend { address: ip(index), port: 8443, weight: 1, local: false };
    (1..=OPERATIONS).map(|index| ServerOperation::AddReal(server, backend(index), 0)).collect()
}

fn v4(index: u16) -> IpAddr {
    let [high, low] = index.to_be_bytes();
    Ipv4Addr::new(10, 244, high, low).into()
}

fn v6(index: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, index).into()
}

fn servers() -> Vec<ServerOperation> {
    let server = |index| {
        let address = VirtualAddress { ip: v4(index), port: 443, protocol: Protocol::Tcp };
        VirtualServer::new(address, Scheduler::Rr)
    };
    (1..=OPERATIONS).map(|index| ServerOperation::Add(server(index))).collect()
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(OPERATIONS.into()));
    let cases = [
        ("real servers, IPv4", additions(v4)),
        ("real servers, IPv6", additions(v6)),
        ("virtual servers", servers()),
    ];
    for (name, operations) in cases {
        let mut batch = Batch::default();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batch.clear();
                for operation in black_box(&operations) {
                    encode(&mut batch, 30, &command(operation));
                }
                black_box(batch.bytes());
            });
        });
    }
    group.finish();
}

fn walking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements(OPERATIONS.into()));
    let mut batch = Batch::default();
    for operation in &additions(v4) {
        encode(&mut batch, 30, &command(operation));
    }
    group.bench_function("attributes", |bencher| {
        bencher.iter_batched(
            || batch.bytes(),
            |bytes| {
                messages(bytes)
                    .filter_map(|(_, payload)| payload.get(4..))
                    .flat_map(attributes)
                    .flat_map(|attribute| attribute.nested())
                    .filter(|attribute| attribute.kind == 2)
                    .count()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, encoding, walking);
criterion_main!(benches);
