//! Elements of the sets and maps of our nf_tables tables.
//!
//! The rules of the tables are written once (`src/kernel/nft/ruleset.nft`, which says what each set
//! is for); Services only add and remove elements.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, InterfaceName, Interfaces, VirtualAddress};

/// Sets of one kind of elements, by the names that they have in the tables.
macro_rules! sets {
    ($(#[$doc:meta])* $kind:ident { $($set:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(missing_docs)]
        pub enum $kind {
            $($set,)*
        }

        impl $kind {
            /// The name in the tables.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$set => $name,)*
                }
            }

            /// The one of that name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$set),)*
                    _ => None,
                }
            }
        }
    };
}

sets! {
    /// Sets of disjoint ranges.
    RangeSet {
        ServiceRanges = "service-ranges",
        Reachable = "reachable",
        Pods = "pods",
        Insiders = "insiders",
    }
}

sets! {
    /// Sets of interfaces.
    InterfaceSet {
        Pods = "pod-interfaces",
        Insiders = "insider-interfaces",
    }
}

sets! {
    /// Sets of addresses.
    AddressSet {
        Pools = "pools",
        Images = "images",
        ClusterIps = "cluster-ips",
        SeveralPorts = "several-ports",
        FrontendIps = "front-end-ips",
        NodePortIps = "node-port-ips",
        Hairpin = "hairpin",
    }
}

impl AddressSet {
    /// Whether each address stands beside itself.
    #[must_use]
    pub fn is_of_pairs(self) -> bool {
        matches!(self, Self::ClusterIps | Self::Hairpin)
    }
}

sets! {
    /// Sets of front ends and of other sockets.
    PortSet {
        Refused = "refused",
        Dropped = "dropped",
        Restricted = "restricted",
        Masqueraded = "masqueraded",
        MasqueradedNode = "masqueraded-node",
        LocalSockets = "local-sockets",
        Datagrams = "datagrams",
        Former = "former",
    }
}

sets! {
    /// Maps from front ends to pools, by who is led there.
    Leads {
        Everybody = "front-ends",
        Insiders = "front-ends-inside",
        Outsiders = "front-ends-outside",
    }
}

/// An element of a set, map or flowtable.
///
/// The front end of a node port has the unspecified address of its family. Elements are added in this
/// order, so that a front end leads insiders to its pool before it drops them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// A range of addresses.
    Range(RangeSet, IpNet),
    /// Interfaces by name.
    Interfaces(InterfaceSet, Interfaces),
    /// An address.
    Address(AddressSet, IpAddr),
    /// A front end, and address and port of the pool that it leads to.
    Lead(Leads, VirtualAddress, IpAddr, u16),
    /// An address with port and protocol.
    Port(PortSet, VirtualAddress),
    /// `allowed`. Sources of a front end are disjoint.
    Allowed(VirtualAddress, IpNet),
    /// The flowtable `carried`: a link that it carries connections from and to.
    OffloadLink(InterfaceName),
}

impl Element {
    /// The set, map or flowtable.
    #[must_use]
    pub fn set(&self) -> &'static str {
        match self {
            Self::Range(set, _) => set.name(),
            Self::Interfaces(set, _) => set.name(),
            Self::Address(set, _) => set.name(),
            Self::Port(set, _) => set.name(),
            Self::Lead(map, ..) => map.name(),
            Self::Allowed(..) => "allowed",
            Self::OffloadLink(_) => "carried",
        }
    }

    /// The address family, and so the table. Interfaces and links are in the tables of both.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Some(Family::of(match self {
            Self::Range(_, net) => net.addr(),
            Self::Address(_, ip) => *ip,
            Self::Port(_, address) | Self::Lead(_, address, ..) | Self::Allowed(address, _) => {
                address.ip
            }
            Self::Interfaces(..) | Self::OffloadLink(_) => return None,
        }))
    }

    /// The front end that it leads to a pool or refuses; whether one drops is told by others.
    #[must_use]
    pub fn frontend(&self) -> Option<VirtualAddress> {
        match self {
            Self::Port(PortSet::Refused, address) => Some(*address),
            element => element.lead().map(|(frontend, _)| frontend),
        }
    }

    /// The front end that it leads to a pool, and that pool's address.
    #[must_use]
    pub fn lead(&self) -> Option<(VirtualAddress, VirtualAddress)> {
        match *self {
            Self::Lead(_, frontend, ip, port) => {
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
            Self::Range(_, net) => net.fmt(f),
            Self::Interfaces(_, interfaces) => write!(f, "\"{interfaces}\""),
            Self::Address(set, ip) if set.is_of_pairs() => write!(f, "{ip} . {ip}"),
            Self::Address(_, ip) => ip.fmt(f),
            Self::Port(_, address) => f.write_str(&key(address)),
            Self::Lead(_, address, ip, port) => write!(f, "{} : {ip} . {port}", key(address)),
            Self::Allowed(address, net) => write!(f, "{} . {net}", key(address)),
            Self::OffloadLink(name) => name.fmt(f),
        }
    }
}
