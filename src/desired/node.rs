//! What the kernel should hold whatever the Services.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Surroundings;
use super::ranges::aggregate;
use crate::model::{Family, LocalDetector, NodeProgram, Route, RouteTable};

/// What the kernel should hold because of the node and the cluster's ranges.
#[must_use]
pub fn node_program(around: &Surroundings) -> NodeProgram {
    let service_ranges = around.service_ranges.clone();
    let image_ranges = around.image_ranges.clone();
    let routes = service_ranges
        .iter()
        .chain(&image_ranges)
        .map(|range| Route {
            prefix: *range,
            table: RouteTable::Local,
            source: around.primary_ip(Family::of(range.addr())),
        })
        .collect();
    NodeProgram {
        pods: pods(around),
        local_pods: local_pods(around),
        service_ranges,
        image_ranges,
        routes,
    }
}

/// Sources that a ClusterIP connection keeps.
///
/// Pods behind a bridge or an interface are told by the node's `podCIDRs`: by the time that the
/// source is decided on, a packet's interface is no longer known for certain.
fn pods(around: &Surroundings) -> Vec<IpNet> {
    if around.settings.masquerade_all {
        return Vec::new();
    }
    let detected = match &around.settings.local_detector {
        LocalDetector::None => &[][..],
        LocalDetector::ClusterCidr(ranges) => ranges,
        LocalDetector::NodeCidr
        | LocalDetector::BridgeInterface(_)
        | LocalDetector::InterfaceNamePrefix(_) => &around.pod_cidrs,
    };
    // Where nobody is told apart, nobody is masqueraded for being elsewhere.
    or_else(detected, &[Ipv4Net::default().into(), Ipv6Net::default().into()])
}

/// This node's own pods: its `podCIDRs`; failing those, what the detector takes for a pod.
fn local_pods(around: &Surroundings) -> Vec<IpNet> {
    let detected = match &around.settings.local_detector {
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        _ => &[],
    };
    or_else(&around.pod_cidrs, detected)
}

/// The ranges, and the others for a family that has none among them; disjoint.
fn or_else(ranges: &[IpNet], others: &[IpNet]) -> Vec<IpNet> {
    let family = |range: &IpNet| Family::of(range.addr());
    let lacks = |other: &&IpNet| !ranges.iter().any(|range| family(range) == family(other));
    aggregate(ranges.iter().chain(others.iter().filter(lacks)).copied())
}
