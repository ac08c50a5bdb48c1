//! Random objects from a small cluster with few names and addresses, so that every kind of conflict
//! occurs.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use kube_ipvs_core::model::{
    AffinityPrefix, Change, Control, Endpoint, EndpointPort, EndpointSlice, Event, Family,
    FrontendKind, LabelRequirement, LabelSelector, Link, LocalityWeights, Name, Node, PodNames,
    Protocol, Scheduler, SchedulerFlags, Service, ServiceCidr, ServiceKey, ServicePort, SliceKey,
    Topology, TrafficPolicy,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::objects::{ip, net, service_key, slice_key};

pub const SERVICES: [&str; 4] = ["a/one", "a/two", "b/one", "default/kubernetes"];
const SLICES: [&str; 5] = ["a/s1", "a/s2", "a/s3", "b/s4", "default/kubernetes"];
pub const NODES: [&str; 2] = ["n1", "n2"];
const ZONES: [&str; 2] = ["z1", "z2"];
/// Two lie in the usual service range, one in another range, one in none.
const CLUSTER_IPS: [&str; 4] = ["10.96.0.10", "10.96.0.11", "10.97.0.10", "172.30.0.10"];
const CLUSTER_IPS_V6: [&str; 2] = ["fd00:10:96::a", "fd00:30::a"];
/// The last four are refused.
const EXTERNAL_IPS: [&str; 7] = [
    "203.0.113.1",
    "203.0.113.2",
    "2001:db8:ff::1",
    "192.0.2.1",
    "10.244.2.5",
    "10.96.0.77",
    "250.98.0.1",
];
const SOURCE_RANGES: [&str; 5] =
    ["198.51.100.0/24", "198.51.0.0/16", "10.244.1.0/24", "2001:db8:7::/48", "0.0.0.0/0"];
const PODS: [&str; 4] = ["s1-a", "s1-b", "s1-", "x"];
const ENDPOINTS: [&str; 5] = ["10.244.1.5", "10.244.1.6", "10.244.2.5", "10.244.2.6", "192.0.2.1"];
const ENDPOINTS_V6: [&str; 2] = ["fd00:10:244:1::5", "fd00:10:244:2::5"];
const PORTS: [(&str, Protocol, u16, u16); 4] = [
    ("http", Protocol::Tcp, 80, 30080),
    ("dns", Protocol::Udp, 80, 30080),
    ("admin", Protocol::Tcp, 81, 80),
    ("", Protocol::Sctp, 80, 0),
];

pub const SOURCES: [&str; 9] = [
    "node",
    "192.0.2.1",
    "10.244.1.5",
    "10.244.1.200",
    "10.244.2.5",
    "198.51.100.9",
    "198.51.101.9",
    "fd00:10:244:1::5",
    "2001:db8:7::7",
];

/// Returns addresses of possible front ends, and others.
pub fn destinations() -> Vec<std::net::IpAddr> {
    let others = ["192.0.2.7", "2001:db8::1", "250.96.0.10", "250.97.0.10", "10.96.0.99"];
    let images = ["252.30.0.10", "172.30.0.99", "fc00:10:96::a", "fc00:30::a"];
    CLUSTER_IPS
        .iter()
        .chain(&CLUSTER_IPS_V6)
        .chain(&EXTERNAL_IPS)
        .chain(&others)
        .chain(&images)
        .map(|text| ip(text))
        .collect()
}

pub fn service() -> impl Strategy<Value = Service> {
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let addresses = (
        option::weighted(0.9, select(&CLUSTER_IPS[..])),
        option::weighted(0.3, select(&CLUSTER_IPS_V6[..])),
        subsequence(&EXTERNAL_IPS[..], 0..3),
        subsequence(&EXTERNAL_IPS[..], 0..3),
    );
    let ports = vec((select(&PORTS[..]), any::<bool>()), 1..3);
    let rest = (
        select(&SERVICES[..]),
        0..3_i64,
        subsequence(&SOURCE_RANGES[..], 0..3),
        policy(),
        policy(),
        option::weighted(0.2, Just(10800)),
        option::weighted(0.3, control()),
    );
    (addresses, ports, rest).prop_map(|(addresses, ports, rest)| {
        let (v4, v6, external, load_balancer) = addresses;
        let (key, created, ranges, internal_policy, external_policy, affinity_seconds, control) =
            rest;
        let ports = ports.into_iter().map(|((name, protocol, port, number), has_number)| {
            let node_port = (has_number && number > 0).then_some(number);
            ServicePort { name: name.into(), protocol, port, node_port }
        });
        Service {
            created,
            cluster_ips: v4.into_iter().chain(v6).map(ip).collect(),
            ports: ports.collect(),
            external_ips: external.into_iter().map(ip).collect(),
            load_balancer_ips: load_balancer.into_iter().map(ip).collect(),
            source_ranges: ranges.into_iter().map(net).collect(),
            internal_policy,
            external_policy,
            affinity_seconds,
            health_check_node_port: (external_policy == TrafficPolicy::Local).then_some(32_000),
            control: control.map(Box::new),
            ..Service::named(service_key(key))
        }
    })
}

/// Generates options of a Service, without slow start: weights then change with time.
fn control() -> impl Strategy<Value = Control> {
    let frontends = subsequence(
        vec![FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::LoadBalancer],
        1..=3,
    );
    let nodes = |is_negated| {
        let requirement = LabelRequirement { key: "edge".into(), values: [].into(), is_negated };
        LabelSelector([requirement].into())
    };
    let options = (
        option::of(select(&Scheduler::ALL[..])),
        option::of((any::<bool>(), any::<bool>()).prop_map(|(port, fallback)| SchedulerFlags {
            scheduler: None,
            port,
            fallback,
        })),
        option::of(Just(LocalityWeights { node: 16, zone: 4, other: 1 })),
        option::of((1..3_u32).prop_map(|limit| NonZeroU32::MIN.saturating_add(limit))),
        option::of(select(vec![Duration::ZERO, Duration::from_secs(60)])),
        option::of(any::<bool>()),
        option::of(Just(AffinityPrefix { v4: 24, v6: 56 })),
        option::weighted(0.3, frontends),
        option::weighted(0.3, any::<bool>().prop_map(nodes)),
    );
    options.prop_map(|options| Control {
        scheduler: options.0,
        scheduler_flags: options.1,
        locality_weights: options.2,
        max_connections: options.3,
        drain: options.4,
        one_packet: options.5,
        affinity_prefix: options.6,
        frontends: options.7.map(Vec::into),
        nodes: options.8,
        ..Control::default()
    })
}

fn names(all: &'static [&'static str]) -> impl Strategy<Value = Box<[Name]>> {
    subsequence(all, 0..=all.len()).prop_map(|names| names.into_iter().map(Name::from).collect())
}

/// Generates an endpoint on the node that its address belongs to.
fn endpoint(addresses: &'static [&'static str]) -> impl Strategy<Value = Endpoint> {
    let conditions = prop_oneof![
        5 => Just((true, true, false)),
        1 => Just((false, false, false)),
        2 => Just((false, true, true)),
        1 => Just((false, false, true)),
    ];
    let hints = option::of((names(&NODES), names(&ZONES))).prop_map(Option::unwrap_or_default);
    let weight = prop_oneof![8 => Just(1), 1 => Just(0), 1 => Just(u16::MAX)];
    let zone = option::of(select(&ZONES[..]));
    (select(addresses), conditions, hints, weight, zone).prop_map(
        |(address, (ready, serving, terminating), (for_nodes, for_zones), weight, zone)| {
            let node = Some(Name::from(if address.contains("244.2") { "n2" } else { "n1" }));
            let zone = zone.map(Name::from);
            let topology = Topology { node, zone, for_nodes, for_zones }.into();
            Endpoint { address: ip(address), ready, serving, terminating, weight, topology }
        },
    )
}

pub fn slice() -> impl Strategy<Value = EndpointSlice> {
    let of_family = |family, addresses| {
        vec(endpoint(addresses), 0..5).prop_map(move |endpoints| (family, endpoints))
    };
    let endpoints = prop_oneof![
        4 => of_family(Family::V4, &ENDPOINTS),
        1 => of_family(Family::V6, &ENDPOINTS_V6),
    ];
    let ports = vec((select(&PORTS[..]), select(vec![8080, 9090])), 1..3);
    let pods = vec(option::of(select(&PODS[..])), 5);
    (select(&SLICES[..]), select(&SERVICES[..]), ports, endpoints, pods).prop_map(
        |(key, service, ports, (family, endpoints), pods)| EndpointSlice {
            key: slice_key(key),
            pods: PodNames::pack(slice_key(key).name(), &pods[..endpoints.len()]),
            service: service_key(service),
            family,
            ports: ports
                .into_iter()
                .map(|((name, protocol, ..), port)| EndpointPort {
                    name: name.into(),
                    protocol,
                    port,
                })
                .collect(),
            endpoints: endpoints.into(),
            triggered: None,
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let addresses = subsequence(vec!["192.0.2.1", "192.0.2.7", "2001:db8::1"], 1..=3);
    let pods = subsequence(vec!["10.244.1.0/24", "10.244.2.0/24", "fd00:10:244:1::/64"], 0..=2);
    let zone = option::of(select(&ZONES[..]));
    (addresses, pods, zone, any::<bool>()).prop_map(|(addresses, pods, zone, is_edge)| Node {
        name: "n1".into(),
        internal_ips: addresses.into_iter().map(ip).collect(),
        pod_cidrs: pods.into_iter().map(net).collect(),
        zone: zone.map(Name::from),
        labels: is_edge.then(|| ("edge".into(), "".into())).into_iter().collect(),
        eligible: true,
    })
}

fn service_cidr() -> impl Strategy<Value = ServiceCidr> {
    let ranges = select(vec![
        vec!["10.96.0.0/16"],
        vec!["10.96.0.0/16", "fd00:10:96::/112"],
        vec!["10.96.0.0/12"],
        vec!["10.97.0.0/16"],
        vec!["172.30.0.0/16"],
    ]);
    (select(vec!["kubernetes", "more"]), ranges).prop_map(|(name, ranges)| ServiceCidr {
        name: name.into(),
        cidrs: ranges.into_iter().map(net).collect(),
    })
}

/// Generates an event of the Services or slices.
pub fn object_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => service().prop_map(|service| Event::Service(Change::Apply(service))),
        2 => select(&SERVICES[..]).prop_map(|key| Event::Service(Change::Delete(service_key(key)))),
        1 => vec(service(), 0..4).prop_map(|list| Event::Service(Change::Replace(distinct(list)))),
        8 => slice().prop_map(|slice| Event::Slice(Change::Apply(slice))),
        2 => select(&SLICES[..]).prop_map(|key| Event::Slice(Change::Delete(slice_key(key)))),
        1 => vec(slice(), 0..4).prop_map(|list| Event::Slice(Change::Replace(distinct_slices(list)))),
    ]
}

/// Generates an event of any source.
pub fn event() -> impl Strategy<Value = Event> {
    let cidrs = prop_oneof![
        3 => service_cidr().prop_map(Change::Apply),
        1 => Just(Change::Delete("kubernetes".into())),
        1 => service_cidr().prop_map(|cidr| Change::Replace(vec![cidr])),
    ];
    let link =
        |(name, index): &(&str, u32)| Link { name: name.parse().expect("a name"), index: *index };
    let links =
        [&[][..], &[("eth0", 2)], &[("cali1", 7), ("eth0", 2)], &[("cali1", 8), ("eth0", 2)]]
            .map(|links| Event::Links(links.iter().map(link).collect()));
    let routes = vec![
        net("10.244.1.0/24"),
        net("250.96.4.0/24"),
        net("198.51.100.0/24"),
        net("2001:db8:7::/48"),
    ];
    prop_oneof![
        20 => object_event(),
        1 => option::weighted(0.9, node()).prop_map(Event::Node),
        1 => cidrs.prop_map(Event::ServiceCidrs),
        1 => subsequence(vec![ip("192.0.2.1"), ip("192.0.2.7")], 0..=2).prop_map(Event::Addresses),
        1 => subsequence(vec![ip("192.0.2.7"), ip("2001:db8::9")], 0..=2)
            .prop_map(Event::SourceIps),
        1 => subsequence(routes, 0..=4).prop_map(Event::Routes),
        1 => select(links.to_vec()),
    ]
}

pub fn events(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Event>> {
    vec(event(), count)
}

fn distinct(list: Vec<Service>) -> Vec<Service> {
    let by_key: BTreeMap<_, _> = list.into_iter().map(|it| (it.key.clone(), it)).collect();
    by_key.into_values().collect()
}

fn distinct_slices(list: Vec<EndpointSlice>) -> Vec<EndpointSlice> {
    let by_key: BTreeMap<_, _> = list.into_iter().map(|it| (it.key.clone(), it)).collect();
    by_key.into_values().collect()
}

/// The objects of a cluster after events: a simple reference implementation.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    services: BTreeMap<ServiceKey, Service>,
    slices: BTreeMap<SliceKey, EndpointSlice>,
    service_cidrs: BTreeMap<Name, ServiceCidr>,
    node: Option<Node>,
    addresses: Vec<std::net::IpAddr>,
    source_ips: Vec<std::net::IpAddr>,
    routes: Vec<ipnet::IpNet>,
    links: Vec<Link>,
}

impl Objects {
    pub fn after<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut objects = Self::default();
        events.into_iter().for_each(|event| objects.take(event.clone()));
        objects
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Service(change) => take(&mut self.services, change, |it| it.key.clone()),
            Event::Slice(change) => take(&mut self.slices, change, |it| it.key.clone()),
            Event::ServiceCidrs(change) => {
                take(&mut self.service_cidrs, change, |it| Name::clone(&it.name));
            }
            // The previous Node is kept until a new one arrives.
            Event::Node(None) => {}
            Event::Node(Some(mut node)) => {
                if let Some(known) = &self.node {
                    for is_v4 in [true, false] {
                        let ips = |node: &Node| -> Vec<_> {
                            let ips = node.internal_ips.iter().copied();
                            ips.filter(|ip| ip.is_ipv4() == is_v4).collect()
                        };
                        if ips(&node).is_empty() {
                            node.internal_ips = [&*node.internal_ips, &ips(known)].concat().into();
                        }
                        let ranges = |node: &Node| -> Vec<_> {
                            let ranges = node.pod_cidrs.iter().copied();
                            ranges.filter(|it| it.addr().is_ipv4() == is_v4).collect()
                        };
                        if ranges(&node).is_empty() {
                            node.pod_cidrs = [&*node.pod_cidrs, &ranges(known)].concat().into();
                        }
                    }
                }
                self.node = Some(node);
            }
            Event::SourceIps(ips) => self.source_ips = ips,
            // The order of events matters for these, which `Objects` does not record.
            Event::Listening(_) | Event::Ipv6(_) | Event::ApiServers(_) => {
                panic!("not among the random events")
            }
            Event::Addresses(addresses) => self.addresses = addresses,
            Event::Routes(routes) => self.routes = routes,
            Event::Links(links) => self.links = links,
        }
    }

    /// Returns the complete lists, as sources deliver them at their start.
    pub fn listed(&self) -> Vec<Event> {
        vec![
            Event::Addresses(self.addresses.clone()),
            Event::SourceIps(self.source_ips.clone()),
            Event::Routes(self.routes.clone()),
            Event::Links(self.links.clone()),
            Event::ServiceCidrs(Change::Replace(self.service_cidrs.values().cloned().collect())),
            Event::Node(self.node.clone()),
            Event::Service(Change::Replace(self.services.values().cloned().collect())),
            Event::Slice(Change::Replace(self.slices.values().cloned().collect())),
        ]
    }
}

fn take<K: Ord, T>(known: &mut BTreeMap<K, T>, change: Change<K, T>, key: impl Fn(&T) -> K) {
    match change {
        Change::Apply(object) => {
            known.insert(key(&object), object);
        }
        Change::Delete(gone) => {
            known.remove(&gone);
        }
        Change::Replace(objects) => {
            *known = objects.into_iter().map(|object| (key(&object), object)).collect();
        }
    }
}
