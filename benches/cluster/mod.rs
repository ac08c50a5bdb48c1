//! Clusters of any size.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::time::Duration;

use kube_ipvs_core::model::{
    Change, Control, Endpoint, EndpointPort, EndpointSlice, Event, Family, LocalityWeights, Name,
    Node, PodNames, Protocol, Scheduler, Service, ServiceCidr, ServiceKey, ServicePort, Shared,
    SliceKey, Topology, VirtualAddress,
};

/// Shared by many objects, as in the objects of a source.
static TOPOLOGIES: LazyLock<[Shared<Topology>; 4]> = LazyLock::new(|| {
    let on = |node: &str| Topology { node: Some(node.into()), ..Topology::default() };
    ["n1", "n2", "n3", "n4"].map(|node| on(node).into())
});
static PORT: LazyLock<Name> = LazyLock::new(|| "http".into());
static PORTS: LazyLock<Shared<[EndpointPort]>> = LazyLock::new(|| {
    [EndpointPort { name: Name::clone(&PORT), protocol: Protocol::Tcp, port: 8080 }].into()
});

/// The numbers of Services, slices per Service and endpoints per slice.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) slices: u32,
    pub(crate) endpoints: u32,
}

fn address(base: [u8; 4], index: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + index).into()
}

/// Returns the corresponding IPv6 address.
fn counterpart(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets().map(u16::from);
            Ipv6Addr::new(0xfd00, 0, 0, 0, a, b, c, d).into()
        }
        IpAddr::V6(_) => ip,
    }
}

pub(crate) fn service_key(index: u32) -> ServiceKey {
    ServiceKey::new("default", &format!("service-{index}"))
}

fn cluster_ip(index: u32) -> IpAddr {
    address([10, 96, 0, 1], index)
}

pub(crate) fn frontend(index: u32) -> VirtualAddress {
    VirtualAddress { ip: cluster_ip(index), port: 80, protocol: Protocol::Tcp }
}

fn service(index: u32) -> Service {
    Service {
        created: index.into(),
        cluster_ips: [cluster_ip(index)].into(),
        ports: [ServicePort {
            name: Name::clone(&PORT),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }]
        .into(),
        ..Service::named(service_key(index))
    }
}

pub(crate) fn slice(size: Size, service: u32, slice: u32, endpoints: u32) -> EndpointSlice {
    let first = (service * size.slices + slice) * (size.endpoints + 1);
    let endpoint = |index: u32| Endpoint {
        address: address([10, 128, 0, 0], first + index),
        ready: true,
        serving: true,
        terminating: false,
        weight: 1,
        topology: Shared::clone(&TOPOLOGIES[index as usize % TOPOLOGIES.len()]),
    };
    let pods: Vec<_> = (0..endpoints).map(|index| pod(service, first + index)).collect();
    let mut object = EndpointSlice {
        key: SliceKey::new("default", &format!("service-{service}-{slice}")),
        service: service_key(service),
        family: Family::V4,
        ports: Shared::clone(&PORTS),
        endpoints: Box::default(),
        pods: PodNames::default(),
        triggered: None,
    };
    let pods = pods.iter().map(|pod| Some(pod.as_str()));
    object.set_endpoints((0..endpoints).map(endpoint).zip(pods).collect());
    object
}

/// Returns a name as a Deployment's pods have them.
fn pod(service: u32, index: u32) -> String {
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let letter = |place: u32| letters[(index / 27_u32.pow(place) % 27) as usize];
    let suffix: String = (0..5).map(|place| char::from(letter(place))).collect();
    format!("service-{service}-7d9f8c6b54-{suffix}")
}

/// Returns the load balancer IP and the node port of a Service in a cluster of [`externally`].
pub(crate) fn external(index: u32) -> (IpAddr, u16) {
    (address([198, 18, 0, 1], index), 20_000 + index as u16)
}

/// Adds a load balancer IP and a node port to each Service of a cluster.
pub(crate) fn externally(mut events: Vec<Event>) -> Vec<Event> {
    for event in &mut events {
        if let Event::Service(Change::Replace(all)) = event {
            for (service, index) in all.iter_mut().zip(0..) {
                let (ip, port) = external(index);
                service.load_balancer_ips = [ip].into();
                service.ports[0].node_port = Some(port);
            }
        }
    }
    events
}

/// Gives every Service of a cluster options, except the first ones.
pub(crate) fn optionally(mut events: Vec<Event>, first: u32) -> Vec<Event> {
    let control = Control {
        scheduler: Some(Scheduler::Wlc),
        locality_weights: Some(LocalityWeights { node: 16, zone: 4, other: 1 }),
        slow_start: Some(Duration::from_secs(30)),
        max_connections: NonZeroU32::new(1_000),
        drain: Some(Duration::from_secs(3_600)),
        ..Control::default()
    };
    for event in &mut events {
        if let Event::Service(Change::Replace(all)) = event {
            let others = all.iter_mut().skip(first as usize);
            others.for_each(|service| service.control = Some(control.clone().into()));
        }
    }
    events
}

/// Returns a dual-stack cluster with twice as many slices.
pub(crate) fn dual_stack(size: Size) -> Vec<Event> {
    let twice = |service: Service| {
        let ips = service.cluster_ips.iter().flat_map(|ip| [*ip, counterpart(*ip)]);
        Service { cluster_ips: ips.collect(), ..service }
    };
    let other = |slice: &EndpointSlice| {
        let endpoint = |endpoint: &Endpoint| Endpoint {
            address: counterpart(endpoint.address),
            ..endpoint.clone()
        };
        EndpointSlice {
            key: SliceKey::new("default", &format!("{}-v6", slice.key)),
            family: Family::V6,
            endpoints: slice.endpoints.iter().map(endpoint).collect(),
            ..slice.clone()
        }
    };
    let mut events = events(size);
    for event in &mut events {
        match event {
            Event::Service(Change::Replace(all)) => {
                *all = std::mem::take(all).into_iter().map(twice).collect();
            }
            Event::Slice(Change::Replace(all)) => {
                let others: Vec<_> = all.iter().map(other).collect();
                all.extend(others);
            }
            Event::ServiceCidrs(Change::Replace(all)) => {
                all.push(ServiceCidr {
                    name: "v6".into(),
                    cidrs: ["fd00::a:60:0:0/96".parse().expect("range")].into(),
                });
            }
            _ => {}
        }
    }
    events
}

/// Returns all objects of a cluster as complete lists.
pub(crate) fn events(size: Size) -> Vec<Event> {
    let slices = (0..size.services)
        .flat_map(|service| (0..size.slices).map(move |index| (service, index)))
        .map(|(service, index)| slice(size, service, index, size.endpoints));
    let cidr = "10.96.0.0/12".parse().expect("range");
    let node = Node {
        name: "n1".into(),
        internal_ips: [address([192, 0, 2, 1], 0)].into(),
        pod_cidrs: ["10.128.0.0/24".parse().expect("range")].into(),
        zone: None,
        labels: [].into(),
        eligible: true,
    };
    vec![
        Event::Node(Some(node)),
        Event::ServiceCidrs(Change::Replace(vec![ServiceCidr {
            name: "kubernetes".into(),
            cidrs: [cidr].into(),
        }])),
        Event::Service(Change::Replace((0..size.services).map(service).collect())),
        Event::Slice(Change::Replace(slices.collect())),
    ]
}
