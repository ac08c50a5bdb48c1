//! The node and the cluster's service ranges.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Name};

/// The Node object of this node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub name: Name,
    /// `status.addresses[]` of type `InternalIP`, in order.
    pub internal_ips: Box<[IpAddr]>,
    /// `spec.podCIDRs` (or `spec.podCIDR`).
    pub pod_cidrs: Box<[IpNet]>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Name>,
    pub labels: Box<[(Name, Name)]>,
    /// Whether a load balancer may send traffic here: the node is neither being deleted nor tainted
    /// `ToBeDeletedByClusterAutoscaler`.
    pub eligible: bool,
}

impl Node {
    /// Returns the first InternalIP of a family.
    #[must_use]
    pub fn primary_ip(&self, family: Family) -> Option<IpAddr> {
        self.internal_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Keeps the addresses and the ranges of an earlier object for each family of which this object
    /// has none.
    pub fn keep(&mut self, earlier: &Self) {
        keep(&mut self.internal_ips, &earlier.internal_ips, |ip| *ip);
        keep(&mut self.pod_cidrs, &earlier.pod_cidrs, IpNet::addr);
    }
}

fn keep<T: Copy>(current: &mut Box<[T]>, earlier: &[T], ip: impl Fn(&T) -> IpAddr) {
    let has = |family| current.iter().any(|it| Family::of(ip(it)) == family);
    let kept = earlier.iter().filter(|it| !has(Family::of(ip(it))));
    *current = current.iter().chain(kept).copied().collect();
}

/// A ServiceCIDR object: ranges from which ClusterIPs are allocated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceCidr {
    pub name: Name,
    /// `spec.cidrs`, at most one per family.
    pub cidrs: Box<[IpNet]>,
}
