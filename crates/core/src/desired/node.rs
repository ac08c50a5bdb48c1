//! The desired state of the node, independent of the Services.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::NodeContext;
use super::overlaps::unshared;
use super::ranges::aggregate;
use crate::canary;
use crate::model::{DesiredNode, Family, Interfaces, Link, LocalDetector};

/// Computes what the kernel must hold for the node and the cluster's ranges.
#[must_use]
pub fn desired_node(context: &NodeContext) -> DesiredNode {
    let interfaces = interfaces(context);
    let own = context.own_ips.iter().copied().map(IpNet::from);
    DesiredNode {
        service_ranges: unshared(context),
        reachable: reachable(context),
        pods: with_canary(pods(context), context),
        pod_interfaces: interfaces.filter(|_| !context.settings.masquerade_all),
        insiders: aggregate(local_pods(context).into_iter().chain(own)),
        insider_interfaces: interfaces,
        node_port_ips: context.node_port_ips.clone(),
        offload_links: offload_links(context),
    }
}

fn offload_links(context: &NodeContext) -> Vec<Link> {
    let configured = context.settings.carry.offload_interfaces();
    let is_offloaded = |link: &&Link| configured.iter().any(|some| some.contain(&link.name));
    context.links.iter().filter(is_offloaded).copied().collect()
}

fn interfaces(context: &NodeContext) -> Option<Interfaces> {
    match context.settings.local_detector {
        LocalDetector::Interfaces(interfaces) => Some(interfaces),
        LocalDetector::None | LocalDetector::ClusterCidr(_) | LocalDetector::NodeCidr => None,
    }
}

fn pods(context: &NodeContext) -> Vec<IpNet> {
    if context.settings.masquerade_all {
        return Vec::new();
    }
    let detected = match &context.settings.local_detector {
        LocalDetector::None => &[][..],
        LocalDetector::ClusterCidr(ranges) => ranges,
        LocalDetector::NodeCidr => &context.pod_cidrs,
        LocalDetector::Interfaces(_) => return Vec::new(),
    };
    // Without detection, no ClusterIP connection is masqueraded for its source.
    or_else(detected, &[Ipv4Net::default().into(), Ipv6Net::default().into()])
}

/// Adds the client of the canary, which is a pod however pods are recognised.
fn with_canary(pods: Vec<IpNet>, context: &NodeContext) -> Vec<IpNet> {
    if !context.settings.canary {
        return pods;
    }
    let clients = context.families.iter().map(|family| canary::path(*family).client.into());
    aggregate(pods.into_iter().chain(clients))
}

/// Returns the ranges of this node's pods: its `podCIDRs`, or else the detector's ranges.
fn local_pods(context: &NodeContext) -> Vec<IpNet> {
    let detected = match &context.settings.local_detector {
        LocalDetector::None | LocalDetector::NodeCidr => &[],
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::Interfaces(_) => return Vec::new(),
    };
    or_else(&context.pod_cidrs, detected)
}

/// Returns the ranges that are known to be in use: the node's routes, pods, the API servers and the
/// node itself.
fn reachable(context: &NodeContext) -> Vec<IpNet> {
    let cluster = match &context.settings.local_detector {
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::None | LocalDetector::NodeCidr | LocalDetector::Interfaces(_) => &[],
    };
    let pods = context.pod_cidrs.iter().chain(cluster);
    let ranges = context.reachable.iter().chain(pods).copied();
    let api_servers = context.api_servers.iter().map(SocketAddr::ip);
    let ips = context.own_ips.iter().copied().chain(api_servers);
    aggregate(ranges.chain(ips.map(IpNet::from)))
}

/// Returns the ranges, with those of `others` for each family that has none; disjoint.
fn or_else(ranges: &[IpNet], others: &[IpNet]) -> Vec<IpNet> {
    let family = |range: &IpNet| Family::of(range.addr());
    let lacks = |other: &&IpNet| !ranges.iter().any(|range| family(range) == family(other));
    aggregate(ranges.iter().chain(others.iter().filter(lacks)).copied())
}
