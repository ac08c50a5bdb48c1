//! Service ranges and shadow ranges that have another use.

use std::fmt;

use ipnet::IpNet;

use super::NodeContext;
use super::ranges::aggregate;
use crate::model::{Family, LocalDetector};

/// The other use of a service range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// The node's own address, from its Node object or as a source address.
    Node,
    ApiServer,
    /// Pods, from the Node's `podCIDRs` or `clusterCIDR`.
    Pods,
    /// The destination of a route of the node.
    Route,
    /// A service range within a shadow range.
    Services,
}

/// A service range or shadow range, and its other use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Overlap {
    pub range: IpNet,
    /// Whether `range` is a shadow range.
    pub is_shadow: bool,
    /// Contains `range` or lies within it.
    pub other: IpNet,
    pub used_for: Use,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_shadow { "shadow range" } else { "service range" };
        let used_for = match self.used_for {
            Use::Node => "this node's own address",
            Use::ApiServer => "the API server's address",
            Use::Pods => "pods",
            Use::Route => "a route of this node",
            Use::Services => "a service range",
        };
        write!(f, "{what} {}: {} is {used_for}", self.range, self.other)
    }
}

impl Overlap {
    /// The overlap with what follows from it and what to do.
    #[must_use]
    pub fn warning(&self) -> String {
        format!(
            "{self}; addresses there that no Service has are left alone: give the cluster a range of \
             its own"
        )
    }

    /// Returns whether both are of the same range and for the same use.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        (self.range, self.used_for) == (other.range, other.used_for)
    }
}

/// Returns the other uses of service ranges and shadow ranges: one example for each range and use,
/// sorted.
///
/// A single address on an interface does not count, because a DNS cache holds a ClusterIP.
#[must_use]
pub fn overlaps(context: &NodeContext) -> Vec<Overlap> {
    let cluster = match &context.settings.local_detector {
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::None | LocalDetector::NodeCidr | LocalDetector::Interfaces(_) => &[],
    };
    let pods = aggregate(context.pod_cidrs.iter().chain(cluster).copied());
    // IPv6 has a route for each own address.
    let is_own = |route: &IpNet| {
        let is_single = route.prefix_len() == route.max_prefix_len();
        is_single && context.is_own(route.addr())
    };
    let all = [
        (Use::Node, context.node_ips.iter().copied().map(IpNet::from).collect()),
        (Use::ApiServer, context.api_servers.iter().map(|it| IpNet::from(it.ip())).collect()),
        (Use::Pods, pods),
        (Use::Route, context.reachable.iter().copied().filter(|it| !is_own(it)).collect()),
        (Use::Services, context.service_ranges.clone()),
    ];
    let ranges = context.service_ranges.iter().map(|range| (range, false));
    let ranges = ranges.chain(context.shadow_ranges.iter().map(|range| (range, true)));
    let mut overlaps: Vec<_> = ranges
        .flat_map(|(range, is_shadow)| {
            all.iter().flat_map(move |(used_for, others): &(Use, Vec<IpNet>)| {
                let other = others.iter().find(|other| do_overlap(range, other));
                other.map(|other| Overlap {
                    range: *range,
                    is_shadow,
                    other: *other,
                    used_for: *used_for,
                })
            })
        })
        .collect();
    overlaps.sort_unstable();
    overlaps
}

/// Returns the service ranges that have no other use, so that packets to their unused addresses may
/// be dropped. Disjoint.
pub(super) fn unshared(context: &NodeContext) -> Vec<IpNet> {
    let overlaps = overlaps(context);
    let is_shared = |range: &IpNet| overlaps.iter().any(|overlap| overlap.range == *range);
    context.service_ranges.iter().copied().filter(|range| !is_shared(range)).collect()
}

/// Returns whether two ranges overlap. A default route overlaps with nothing. A route for exactly
/// the range, such as that of a node which announces it, leads to Services.
fn do_overlap(one: &IpNet, other: &IpNet) -> bool {
    Family::of(one.addr()) == Family::of(other.addr())
        && other.prefix_len() > 0
        && one != other
        && (one.contains(other) || other.contains(one))
}
