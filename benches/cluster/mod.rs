//! Clusters of any size, for the benches.

use std::net::{IpAddr, Ipv4Addr};

use kube_ipvs::model::{
    Change, Endpoint, EndpointPort, EndpointSlice, Event, Family, Name, Node, Protocol, Service,
    ServiceCidr, ServiceKey, ServicePort, SliceKey,
};

/// Services, slices of each, endpoints of each slice.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) slices: u32,
    pub(crate) endpoints: u32,
}

fn address(base: [u8; 4], index: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::from(base).to_bits() + index).into()
}

fn service_key(index: u32) -> ServiceKey {
    ServiceKey::new("default", &format!("service-{index}"))
}

fn service(index: u32) -> Service {
    Service {
        created: index.into(),
        cluster_ips: [address([10, 96, 0, 1], index)].into(),
        ports: [ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }]
        .into(),
        ..Service::named(service_key(index))
    }
}

pub(crate) fn slice(size: Size, service: u32, slice: u32, endpoints: u32) -> EndpointSlice {
    let nodes: [Name; 4] = ["n1", "n2", "n3", "n4"].map(Name::from);
    let first = (service * size.slices + slice) * (size.endpoints + 1);
    let endpoint = |index: u32| Endpoint {
        address: address([10, 128, 0, 0], first + index),
        ready: true,
        serving: true,
        terminating: false,
        node: Some(Name::clone(&nodes[index as usize % nodes.len()])),
        hints: None,
    };
    EndpointSlice {
        key: SliceKey::new("default", &format!("service-{service}-{slice}")),
        service: service_key(service),
        family: Family::V4,
        ports: [EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }].into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        triggered: None,
    }
}

/// All objects of a cluster, as a source lists them.
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
