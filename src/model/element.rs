//! Elements of the sets and maps of our nf_tables table.
//!
//! The table's rules are written once; Services only add and remove elements.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Interfaces, VirtualAddress};

/// An element of one of our sets or maps; the variant names the set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// `service-ranges`: ClusterIPs are allocated from here. Ranges are disjoint.
    ServiceRange(IpNet),
    /// `image-ranges`: images of the service ranges, which only short-circuits lead to.
    ImageRange(IpNet),
    /// `pods`: sources that a ClusterIP connection keeps. Ranges are disjoint.
    Pods(IpNet),
    /// `pod-interfaces`: what comes in through these keeps its source too.
    PodInterfaces(Interfaces),
    /// `local-pods`: this node's own pods. Ranges are disjoint.
    LocalPods(IpNet),
    /// `local-pod-interfaces`: behind these are own pods too.
    LocalPodInterfaces(Interfaces),
    /// `cluster-ips`: ClusterIPs that a Service has.
    ClusterIp(IpAddr),
    /// `external-ips`: load balancer and external IPs that a Service has.
    ExternalIp(IpAddr),
    /// `own-ips`: the node's addresses, which a Service may have too. Their other ports are the
    /// node's.
    OwnIp(IpAddr),
    /// `frontends`: every front end at a node's, load balancer's or external address.
    Frontend(VirtualAddress),
    /// `hairpin`: a local endpoint that may be sent to itself.
    Hairpin(IpAddr),
    /// `pod-shortcuts`: where a local pod's connection to a front end goes instead.
    PodShortcut(VirtualAddress, IpAddr, u16),
    /// `node-shortcuts`: where a connection of this node's processes goes instead.
    NodeShortcut(VirtualAddress, IpAddr, u16),
    /// `masquerade`: front ends whose connections are all masqueraded.
    Masquerade(VirtualAddress),
    /// `masquerade-node`: front ends whose connections from this node's processes are masqueraded.
    MasqueradeNode(VirtualAddress),
    /// `restricted`: front ends with source ranges.
    Restricted(VirtualAddress),
    /// `allowed`: sources that may use a restricted front end. Disjoint per front end.
    Allowed(VirtualAddress, IpNet),
    /// `dropped`: policy Local without a local endpoint.
    Dropped(VirtualAddress),
    /// `refused`: front ends other than of UDP without an endpoint anywhere. Their virtual server
    /// may still be there for established connections.
    Refused(VirtualAddress),
}

impl Element {
    /// The set or map, without the family's suffix.
    #[must_use]
    pub fn set(&self) -> &'static str {
        match self {
            Self::ServiceRange(_) => "service-ranges",
            Self::ImageRange(_) => "image-ranges",
            Self::Pods(_) => "pods",
            Self::PodInterfaces(_) => "pod-interfaces",
            Self::LocalPods(_) => "local-pods",
            Self::LocalPodInterfaces(_) => "local-pod-interfaces",
            Self::ClusterIp(_) => "cluster-ips",
            Self::ExternalIp(_) => "external-ips",
            Self::OwnIp(_) => "own-ips",
            Self::Frontend(_) => "frontends",
            Self::Hairpin(_) => "hairpin",
            Self::PodShortcut(..) => "pod-shortcuts",
            Self::NodeShortcut(..) => "node-shortcuts",
            Self::Masquerade(_) => "masquerade",
            Self::MasqueradeNode(_) => "masquerade-node",
            Self::Restricted(_) => "restricted",
            Self::Allowed(..) => "allowed",
            Self::Dropped(_) => "dropped",
            Self::Refused(_) => "refused",
        }
    }

    /// The address family: a set of addresses exists once per family, with suffix `4` or `6`.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Some(Family::of(match self {
            Self::PodInterfaces(_) | Self::LocalPodInterfaces(_) => return None,
            Self::ServiceRange(net)
            | Self::ImageRange(net)
            | Self::Pods(net)
            | Self::LocalPods(net) => net.addr(),
            Self::ClusterIp(ip) | Self::ExternalIp(ip) | Self::OwnIp(ip) | Self::Hairpin(ip) => *ip,
            Self::Frontend(address)
            | Self::PodShortcut(address, ..)
            | Self::NodeShortcut(address, ..)
            | Self::Masquerade(address)
            | Self::MasqueradeNode(address)
            | Self::Restricted(address)
            | Self::Allowed(address, _)
            | Self::Dropped(address)
            | Self::Refused(address) => address.ip,
        }))
    }
}

impl fmt::Display for Element {
    /// The element as `nft` reads it, without the braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |address: &VirtualAddress| {
            format!("{} . {} . {}", address.ip, address.protocol, address.port)
        };
        match self {
            Self::ServiceRange(net)
            | Self::ImageRange(net)
            | Self::Pods(net)
            | Self::LocalPods(net) => net.fmt(f),
            Self::PodInterfaces(interfaces) | Self::LocalPodInterfaces(interfaces) => {
                interfaces.fmt(f)
            }
            Self::ClusterIp(ip) | Self::ExternalIp(ip) | Self::OwnIp(ip) => ip.fmt(f),
            Self::Hairpin(ip) => write!(f, "{ip} . {ip}"),
            Self::Frontend(address)
            | Self::Masquerade(address)
            | Self::MasqueradeNode(address)
            | Self::Restricted(address)
            | Self::Dropped(address)
            | Self::Refused(address) => f.write_str(&key(address)),
            Self::PodShortcut(address, ip, port) | Self::NodeShortcut(address, ip, port) => {
                write!(f, "{} : {ip} . {port}", key(address))
            }
            Self::Allowed(address, net) => write!(f, "{} . {net}", key(address)),
        }
    }
}
