//! An endpoint set kept up to date equals one worked out from its slices.

use std::collections::BTreeMap;
use std::iter;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::{
    Backend, Endpoint, EndpointCounts, EndpointFilter, EndpointName, EndpointSelection,
    EndpointSet, EndpointSlice, Family, Locality, LocalityWeights, Name, Protocol, Topology,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::cases;
use crate::common::random::{NODES, slice};

const PORTS: [(&str, Protocol); 3] =
    [("http", Protocol::Tcp), ("dns", Protocol::Udp), ("", Protocol::Sctp)];
const FILTERS: [EndpointFilter; 6] = [
    EndpointFilter::Ready,
    EndpointFilter::ReadyForNode,
    EndpointFilter::ReadyForZone,
    EndpointFilter::ReadyHere,
    EndpointFilter::Draining,
    EndpointFilter::DrainingHere,
];

const WEIGHTS: LocalityWeights = LocalityWeights { node: 1000, zone: 4, other: 2 };

#[derive(Clone, Debug)]
enum Step {
    Insert(Box<EndpointSlice>),
    Remove(usize),
    LookFrom(Option<&'static str>),
    Ask(usize, EndpointSelection),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (slice(), vec(option::of(select(&NODES[..])), 5)).prop_map(|(mut slice, nodes)| {
            slice.family = Family::V4;
            for (endpoint, node) in slice.endpoints.iter_mut().zip(nodes) {
                let node = node.map(Name::from);
                endpoint.topology = Topology { node, ..Topology::clone(&endpoint.topology) }.into();
            }
            Step::Insert(slice.into())
        }),
        2 => (0..5_usize).prop_map(Step::Remove),
        1 => select(vec![None, Some("z1"), Some("z2")]).prop_map(Step::LookFrom),
        3 => (0..3_usize, selection()).prop_map(|(port, how)| Step::Ask(port, how)),
    ]
}

fn selection() -> impl Strategy<Value = EndpointSelection> {
    (select(&FILTERS[..]), option::of(Just(WEIGHTS)), select(vec![1, 10]))
        .prop_map(|(filter, weights, scale)| EndpointSelection { filter, weights, scale })
}

fn locality(zone: Option<&str>) -> Locality {
    Locality { node: "n1".into(), zone: zone.map(Name::from) }
}

/// The endpoints of a port that count, by address and number: of several, the one that does not
/// terminate, else the one that is ready, else the one of the first slice.
fn counted(
    slices: &BTreeMap<String, EndpointSlice>,
    name: &str,
    protocol: Protocol,
) -> Vec<(u16, Endpoint)> {
    let mut best: BTreeMap<(IpAddr, u16), Endpoint> = BTreeMap::new();
    for slice in slices.values() {
        let is_ours = |port: &&kube_ipvs_core::model::EndpointPort| {
            &*port.name == name && port.protocol == protocol
        };
        for port in slice.ports.iter().filter(is_ours) {
            for endpoint in &slice.endpoints {
                let rank = |it: &Endpoint| (it.terminating, !is_ready(it));
                best.entry((endpoint.address, port.port))
                    .and_modify(|known| {
                        if rank(endpoint) < rank(known) {
                            *known = endpoint.clone();
                        }
                    })
                    .or_insert_with(|| endpoint.clone());
            }
        }
    }
    best.into_iter().map(|((_, port), endpoint)| (port, endpoint)).collect()
}

/// The name of the endpoint with an address and port that counts.
fn named(slices: &BTreeMap<String, EndpointSlice>, at: SocketAddr) -> Option<EndpointName> {
    let slices = slices.values().filter(|it| it.ports.iter().any(|port| port.port == at.port()));
    let all = slices.flat_map(|slice| {
        let pods = slice.pods.unpack(slice.key.name()).chain(iter::repeat(None));
        slice.endpoints.iter().zip(pods)
    });
    let all = all.filter(|(endpoint, _)| endpoint.address == at.ip());
    let (endpoint, pod) = all.min_by_key(|(it, _)| (it.terminating, !is_ready(it)))?;
    let Topology { node, zone, .. } = Topology::clone(&endpoint.topology);
    Some(EndpointName { pod, node, zone })
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.ready && endpoint.weight != 0
}

struct Seen {
    ready: bool,
    here: bool,
    in_zone: bool,
    for_node: bool,
    for_zone: bool,
    draining: bool,
}

fn see(endpoint: &Endpoint, locality: &Locality) -> Seen {
    let Topology { node, zone, for_nodes, for_zones } = &*endpoint.topology;
    let ready = is_ready(endpoint);
    Seen {
        ready,
        in_zone: zone.is_some() && *zone == locality.zone,
        here: node.as_ref() == Some(&locality.node),
        for_node: for_nodes.contains(&locality.node),
        for_zone: locality.zone.as_ref().is_some_and(|zone| for_zones.contains(zone)),
        draining: endpoint.serving && !ready && (endpoint.terminating || endpoint.ready),
    }
}

fn tally(counted: &[(u16, Endpoint)], locality: &Locality) -> EndpointCounts {
    let count = |test: &dyn Fn(&Endpoint, Seen) -> bool| {
        counted.iter().filter(|(_, it)| test(it, see(it, locality))).count() as u32
    };
    EndpointCounts {
        ready: count(&|_, seen| seen.ready),
        weighted: count(&|it, seen| seen.ready && it.weight != 1),
        ready_here: count(&|_, seen| seen.ready && seen.here),
        node_hinted: count(&|it, seen| seen.ready && !it.topology.for_nodes.is_empty()),
        for_node: count(&|_, seen| seen.ready && seen.for_node),
        zone_hinted: count(&|it, seen| seen.ready && !it.topology.for_zones.is_empty()),
        for_zone: count(&|_, seen| seen.ready && seen.for_zone),
        draining: count(&|_, seen| seen.draining),
        draining_here: count(&|_, seen| seen.draining && seen.here),
    }
}

fn backends(
    counted: &[(u16, Endpoint)],
    how: EndpointSelection,
    locality: &Locality,
) -> Vec<Backend> {
    let mut all = Vec::new();
    for (port, endpoint) in counted {
        let Seen { ready, here, in_zone, for_node, for_zone, draining } = see(endpoint, locality);
        let serves = match how.filter {
            EndpointFilter::Ready => ready,
            EndpointFilter::ReadyForNode => ready && for_node,
            EndpointFilter::ReadyForZone => ready && for_zone,
            EndpointFilter::ReadyHere => ready && here,
            EndpointFilter::Draining => draining,
            EndpointFilter::DrainingHere => draining && here,
        };
        let only_here =
            matches!(how.filter, EndpointFilter::ReadyHere | EndpointFilter::DrainingHere);
        let factor: u32 = match how.weights {
            None => 1,
            Some(_) if here => WEIGHTS.node.into(),
            Some(_) if in_zone => WEIGHTS.zone.into(),
            Some(_) => WEIGHTS.other.into(),
        };
        let weight = u32::from(endpoint.weight).max(1) * factor * how.scale;
        if serves || draining && (here || !only_here) {
            all.push(Backend {
                address: endpoint.address,
                port: *port,
                weight: if serves { weight } else { 0 },
                local: here,
            });
        }
    }
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn an_endpoint_set_equals_its_slices(steps in vec(step(), 1..25)) {
        let mut set = EndpointSet::default();
        let mut slices = BTreeMap::new();
        let mut from = locality(None);
        for step in steps {
            match step {
                Step::Insert(slice) => {
                    if let Err(new) = set.replace((*slice).clone(), &from) {
                        set.add(new, &from);
                    }
                    slices.insert(slice.key.to_string(), *slice);
                }
                Step::Remove(index) => {
                    if let Some(key) = slices.keys().nth(index).cloned()
                        && let Some(slice) = slices.remove(&key)
                    {
                        set.remove(&slice.key, &from);
                    }
                }
                Step::LookFrom(zone) => {
                    from = locality(zone);
                    set.set_locality(&from);
                }
                Step::Ask(port, how) => {
                    let (name, protocol) = PORTS[port];
                    set.backends(&name.into(), protocol, how, &from);
                }
            }
            for (name, protocol) in PORTS {
                let counted = counted(&slices, name, protocol);
                prop_assert_eq!(set.counts(&name.into(), protocol), tally(&counted, &from));
            }
        }
        for at in slices.values().flat_map(|it| &it.endpoints).flat_map(|it| {
            [8080, 9090].map(|port| SocketAddr::new(it.address, port))
        }) {
            prop_assert_eq!(EndpointName::find(set.slices(), at), named(&slices, at));
        }
        for (name, protocol) in PORTS {
            let counted = counted(&slices, name, protocol);
            let weighted = EndpointSelection { filter: EndpointFilter::Ready, weights: Some(WEIGHTS), scale: 10 };
            for how in FILTERS.into_iter().map(EndpointSelection::from).chain([weighted]) {
                let kept = set.backends(&name.into(), protocol, how, &from).sorted();
                prop_assert_eq!(kept, backends(&counted, how, &from), "{:?}", how);
            }
        }
    }
}
