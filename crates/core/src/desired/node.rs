//! What the kernel should hold whatever the Services.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Surroundings;
use super::overlaps::unshared;
use super::ranges::aggregate;
use crate::model::{Family, Interfaces, Link, LocalDetector, NodeProgram};

/// What the kernel should hold because of the node and the cluster's ranges.
#[must_use]
pub fn node_program(around: &Surroundings) -> NodeProgram {
    let interfaces = interfaces(around);
    let own = around.own_ips.iter().copied().map(IpNet::from);
    NodeProgram {
        service_ranges: unshared(around),
        reachable: reachable(around),
        pods: pods(around),
        pod_interfaces: interfaces.filter(|_| !around.settings.masquerade_all),
        insiders: aggregate(local_pods(around).into_iter().chain(own)),
        insider_interfaces: interfaces,
        node_port_ips: around.node_port_ips.clone(),
        offload_links: offload_links(around),
    }
}

/// Those of the node's links that are configured.
fn offload_links(around: &Surroundings) -> Vec<Link> {
    let wanted = around.settings.carry.offload_interfaces();
    let is_wanted = |link: &&Link| wanted.iter().any(|some| some.contain(&link.name));
    around.links.iter().filter(is_wanted).copied().collect()
}

/// The interfaces that the node's pods are behind, where they are told by that.
fn interfaces(around: &Surroundings) -> Option<Interfaces> {
    match around.settings.local_detector {
        LocalDetector::Interfaces(interfaces) => Some(interfaces),
        LocalDetector::None | LocalDetector::ClusterCidr(_) | LocalDetector::NodeCidr => None,
    }
}

/// Sources that a ClusterIP connection keeps.
fn pods(around: &Surroundings) -> Vec<IpNet> {
    if around.settings.masquerade_all {
        return Vec::new();
    }
    let detected = match &around.settings.local_detector {
        LocalDetector::None => &[][..],
        LocalDetector::ClusterCidr(ranges) => ranges,
        LocalDetector::NodeCidr => &around.pod_cidrs,
        LocalDetector::Interfaces(_) => return Vec::new(),
    };
    // Where nobody is told apart, nobody is masqueraded for being elsewhere.
    or_else(detected, &[Ipv4Net::default().into(), Ipv6Net::default().into()])
}

/// This node's own pods: its `podCIDRs`; failing those, what the detector takes for a pod.
fn local_pods(around: &Surroundings) -> Vec<IpNet> {
    let detected = match &around.settings.local_detector {
        LocalDetector::None | LocalDetector::NodeCidr => &[],
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::Interfaces(_) => return Vec::new(),
    };
    or_else(&around.pod_cidrs, detected)
}

/// Where something is known to be: what the node has routes to, pods, the API servers, and the node
/// itself.
fn reachable(around: &Surroundings) -> Vec<IpNet> {
    let cluster = match &around.settings.local_detector {
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::None | LocalDetector::NodeCidr | LocalDetector::Interfaces(_) => &[],
    };
    let pods = around.pod_cidrs.iter().chain(cluster);
    let ranges = around.reachable.iter().chain(pods).copied();
    let api_servers = around.api_servers.iter().map(SocketAddr::ip);
    let ips = around.own_ips.iter().copied().chain(api_servers);
    aggregate(ranges.chain(ips.map(IpNet::from)))
}

/// The ranges, and the others for a family that has none among them; disjoint.
fn or_else(ranges: &[IpNet], others: &[IpNet]) -> Vec<IpNet> {
    let family = |range: &IpNet| Family::of(range.addr());
    let lacks = |other: &&IpNet| !ranges.iter().any(|range| family(range) == family(other));
    aggregate(ranges.iter().chain(others.iter().filter(lacks)).copied())
}
