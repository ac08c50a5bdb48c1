//! Service ranges, and those of their images, that hold what is no Service's.

use std::fmt;

use ipnet::IpNet;

use super::NodeContext;
use super::ranges::aggregate;
use crate::model::{Family, LocalDetector};

/// What else lies in a service range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// The node's own address, by its Node object or where it sends from.
    Node,
    /// The API server.
    ApiServer,
    /// Pods, by the Node's `podCIDRs` or `clusterCIDR`.
    Pods,
    /// What the node has a route to.
    Route,
    /// Services, among the images of others.
    Services,
}

/// A range of ClusterIPs or their images, and what else lies in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Overlap {
    /// The range.
    pub range: IpNet,
    /// Whether it is one of images.
    pub is_of_images: bool,
    /// What lies in it, or what it lies in.
    pub other: IpNet,
    /// What that is.
    pub used_for: Use,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_of_images { "images of ClusterIPs in" } else { "service range" };
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

    /// Whether it is of the same range, and for the same use.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        (self.range, self.used_for) == (other.range, other.used_for)
    }
}

/// What lies in a service range or in one of images and is no Service's: one example for each range and
/// use, sorted.
///
/// A single address that an interface has is no sign of that: a cache of DNS holds a ClusterIP.
#[must_use]
pub fn overlaps(context: &NodeContext) -> Vec<Overlap> {
    let cluster = match &context.settings.local_detector {
        LocalDetector::ClusterCidr(ranges) => &ranges[..],
        LocalDetector::None | LocalDetector::NodeCidr | LocalDetector::Interfaces(_) => &[],
    };
    let pods = aggregate(context.pod_cidrs.iter().chain(cluster).copied());
    // IPv6 has a route for each.
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
    let ranges = ranges.chain(context.image_ranges.iter().map(|range| (range, true)));
    let mut overlaps: Vec<_> = ranges
        .flat_map(|(range, is_of_images)| {
            all.iter().flat_map(move |(used_for, others): &(Use, Vec<IpNet>)| {
                let other = others.iter().find(|other| do_overlap(range, other));
                other.map(|other| Overlap {
                    range: *range,
                    is_of_images,
                    other: *other,
                    used_for: *used_for,
                })
            })
        })
        .collect();
    overlaps.sort_unstable();
    overlaps
}

/// The service ranges with addresses of Services or unused ones only, so that those that no Service has
/// may be dropped. Disjoint.
pub(super) fn unshared(context: &NodeContext) -> Vec<IpNet> {
    let overlaps = overlaps(context);
    let is_shared = |range: &IpNet| overlaps.iter().any(|overlap| overlap.range == *range);
    context.service_ranges.iter().copied().filter(|range| !is_shared(range)).collect()
}

/// Whether two ranges have an address in common. A default route overlaps with nothing, and a route for
/// just the range, such as that of a node which announces it, leads to Services.
fn do_overlap(one: &IpNet, other: &IpNet) -> bool {
    Family::of(one.addr()) == Family::of(other.addr())
        && other.prefix_len() > 0
        && one != other
        && (one.contains(other) || other.contains(one))
}
