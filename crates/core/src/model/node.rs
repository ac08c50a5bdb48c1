//! The node and the cluster's service ranges.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Name};

/// The Node object of the node that this agent runs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// `metadata.name`.
    pub name: Name,
    /// `status.addresses[]` of type `InternalIP`, in their order.
    pub internal_ips: Box<[IpAddr]>,
    /// `spec.podCIDRs` (or `spec.podCIDR`).
    pub pod_cidrs: Box<[IpNet]>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Name>,
    /// Whether a load balancer may send traffic here: neither being deleted nor tainted
    /// `ToBeDeletedByClusterAutoscaler`.
    pub eligible: bool,
}

impl Node {
    /// The first InternalIP of a family.
    #[must_use]
    pub fn primary_ip(&self, family: Family) -> Option<IpAddr> {
        self.internal_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Takes over what an earlier object told of a family of which this one tells nothing, addresses and
    /// ranges each for themselves.
    pub fn keep(&mut self, earlier: &Self) {
        keep(&mut self.internal_ips, &earlier.internal_ips, |ip| *ip);
        keep(&mut self.pod_cidrs, &earlier.pod_cidrs, IpNet::addr);
    }
}

fn keep<T: Copy>(told: &mut Box<[T]>, earlier: &[T], ip: impl Fn(&T) -> IpAddr) {
    let has = |family| told.iter().any(|it| Family::of(ip(it)) == family);
    let kept = earlier.iter().filter(|it| !has(Family::of(ip(it))));
    *told = told.iter().chain(kept).copied().collect();
}

/// A ServiceCIDR object: ranges that ClusterIPs are allocated from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub name: Name,
    /// `spec.cidrs`, at most one of each family.
    pub cidrs: Box<[IpNet]>,
}
