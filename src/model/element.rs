//! Elements of the sets and maps of our nf_tables tables.
//!
//! The rules of the tables are written once (`src/kernel/nft/ruleset.nft`, which says what each set
//! is for); Services only add and remove elements.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, InterfaceName, Interfaces, VirtualAddress};

/// An element of a set, map or flowtable; the variant names it.
///
/// The front end of a node port has the unspecified address of its family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// `service-ranges`. Ranges are disjoint.
    ServiceRange(IpNet),
    /// `reachable`. Ranges are disjoint.
    Reachable(IpNet),
    /// `pods`. Ranges are disjoint.
    Pods(IpNet),
    /// `pod-interfaces`.
    PodInterfaces(Interfaces),
    /// `insiders`. Ranges are disjoint.
    Insiders(IpNet),
    /// `insider-interfaces`.
    InsiderInterfaces(Interfaces),
    /// `pools`.
    Pool(IpAddr),
    /// `images`.
    Image(IpAddr),
    /// `cluster-ips`.
    ClusterIp(IpAddr),
    /// `several-ports`.
    SeveralPorts(IpAddr),
    /// `front-end-ips`.
    FrontendIp(IpAddr),
    /// `node-port-ips`.
    NodePortIp(IpAddr),
    /// `front-ends`: a front end, and address and port of the pool that it leads to.
    Frontend(VirtualAddress, IpAddr, u16),
    /// `front-ends-inside`.
    FrontendInside(VirtualAddress, IpAddr, u16),
    /// `front-ends-outside`.
    FrontendOutside(VirtualAddress, IpAddr, u16),
    /// `refused`.
    Refused(VirtualAddress),
    /// `dropped`.
    Dropped(VirtualAddress),
    /// `restricted`.
    Restricted(VirtualAddress),
    /// `allowed`. Sources of a front end are disjoint.
    Allowed(VirtualAddress, IpNet),
    /// `masqueraded`.
    Masqueraded(VirtualAddress),
    /// `masqueraded-node`.
    MasqueradedNode(VirtualAddress),
    /// `hairpin`.
    Hairpin(IpAddr),
    /// `local-sockets`.
    LocalSocket(VirtualAddress),
    /// `former`.
    Former(VirtualAddress),
    /// The flowtable `carried`: a link that it carries connections from and to.
    OffloadLink(InterfaceName),
}

impl Element {
    /// The set, map or flowtable.
    #[must_use]
    pub fn set(&self) -> &'static str {
        match self {
            Self::ServiceRange(_) => "service-ranges",
            Self::Reachable(_) => "reachable",
            Self::Pods(_) => "pods",
            Self::PodInterfaces(_) => "pod-interfaces",
            Self::Insiders(_) => "insiders",
            Self::InsiderInterfaces(_) => "insider-interfaces",
            Self::Pool(_) => "pools",
            Self::Image(_) => "images",
            Self::ClusterIp(_) => "cluster-ips",
            Self::SeveralPorts(_) => "several-ports",
            Self::FrontendIp(_) => "front-end-ips",
            Self::NodePortIp(_) => "node-port-ips",
            Self::Frontend(..) => "front-ends",
            Self::FrontendInside(..) => "front-ends-inside",
            Self::FrontendOutside(..) => "front-ends-outside",
            Self::Refused(_) => "refused",
            Self::Dropped(_) => "dropped",
            Self::Restricted(_) => "restricted",
            Self::Allowed(..) => "allowed",
            Self::Masqueraded(_) => "masqueraded",
            Self::MasqueradedNode(_) => "masqueraded-node",
            Self::Hairpin(_) => "hairpin",
            Self::LocalSocket(_) => "local-sockets",
            Self::Former(_) => "former",
            Self::OffloadLink(_) => "carried",
        }
    }

    /// The address family, and so the table. Interfaces and links are in the tables of both.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Some(Family::of(match self {
            Self::PodInterfaces(_) | Self::InsiderInterfaces(_) | Self::OffloadLink(_) => {
                return None;
            }
            Self::ServiceRange(net)
            | Self::Reachable(net)
            | Self::Pods(net)
            | Self::Insiders(net) => net.addr(),
            Self::Pool(ip)
            | Self::Image(ip)
            | Self::ClusterIp(ip)
            | Self::SeveralPorts(ip)
            | Self::FrontendIp(ip)
            | Self::NodePortIp(ip)
            | Self::Hairpin(ip) => *ip,
            Self::Frontend(address, ..)
            | Self::FrontendInside(address, ..)
            | Self::FrontendOutside(address, ..)
            | Self::Refused(address)
            | Self::Dropped(address)
            | Self::Restricted(address)
            | Self::Allowed(address, _)
            | Self::Masqueraded(address)
            | Self::MasqueradedNode(address)
            | Self::LocalSocket(address)
            | Self::Former(address) => address.ip,
        }))
    }

    /// The front end that it leads to a pool or refuses; whether one drops is told by others.
    #[must_use]
    pub fn frontend(&self) -> Option<VirtualAddress> {
        match self {
            Self::Refused(address) => Some(*address),
            element => element.lead().map(|(frontend, _)| frontend),
        }
    }

    /// The front end that it leads to a pool, and that pool's address.
    #[must_use]
    pub fn lead(&self) -> Option<(VirtualAddress, VirtualAddress)> {
        match *self {
            Self::Frontend(frontend, ip, port)
            | Self::FrontendInside(frontend, ip, port)
            | Self::FrontendOutside(frontend, ip, port) => {
                Some((frontend, VirtualAddress { ip, port, ..frontend }))
            }
            _ => None,
        }
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
            | Self::Reachable(net)
            | Self::Pods(net)
            | Self::Insiders(net) => net.fmt(f),
            Self::PodInterfaces(interfaces) | Self::InsiderInterfaces(interfaces) => {
                write!(f, "\"{interfaces}\"")
            }
            Self::Pool(ip)
            | Self::Image(ip)
            | Self::SeveralPorts(ip)
            | Self::FrontendIp(ip)
            | Self::NodePortIp(ip) => ip.fmt(f),
            Self::OffloadLink(name) => name.fmt(f),
            Self::ClusterIp(ip) | Self::Hairpin(ip) => write!(f, "{ip} . {ip}"),
            Self::Refused(address)
            | Self::Dropped(address)
            | Self::Restricted(address)
            | Self::Masqueraded(address)
            | Self::MasqueradedNode(address)
            | Self::LocalSocket(address)
            | Self::Former(address) => f.write_str(&key(address)),
            Self::Frontend(address, ip, port)
            | Self::FrontendInside(address, ip, port)
            | Self::FrontendOutside(address, ip, port) => {
                write!(f, "{} : {ip} . {port}", key(address))
            }
            Self::Allowed(address, net) => write!(f, "{} . {net}", key(address)),
        }
    }
}
