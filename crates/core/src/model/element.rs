//! Elements of the sets and maps of the agent's nf_tables tables.
//!
//! The rules are written once (`src/kernel/nft/ruleset.nft`, which describes each set); Services
//! only add and remove elements.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, InterfaceName, Interfaces, VirtualAddress};

/// Defines the sets of one kind of elements, with their names in the tables.
macro_rules! sets {
    ($(#[$doc:meta])* $kind:ident { $($set:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $kind {
            $($set,)*
        }

        impl $kind {
            /// Returns the name in the tables.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$set => $name,)*
                }
            }

            /// Returns the set with this name.
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
    /// Returns whether each element is a pair of the same address twice.
    #[must_use]
    pub fn is_of_pairs(self) -> bool {
        matches!(self, Self::ClusterIps | Self::Hairpin)
    }
}

sets! {
    /// Sets of front ends and other sockets.
    PortSet {
        Refused = "refused",
        Dropped = "dropped",
        Restricted = "restricted",
        Masqueraded = "masqueraded",
        MasqueradedNode = "masqueraded-node",
        LocalSockets = "local-sockets",
        Datagrams = "datagrams",
        Former = "former",
        OnePacket = "one-packet",
    }
}

sets! {
    /// Maps from front ends to pools, by client class.
    Leads {
        Everybody = "front-ends",
        Insiders = "front-ends-inside",
        Outsiders = "front-ends-outside",
    }
}

sets! {
    /// Maps from front ends of [`Masquerade::Never`](super::Masquerade) to the addresses of pools, by
    /// client class.
    OnePacketLeads {
        Insiders = "one-packet-inside",
        Outsiders = "one-packet-outside",
    }
}

/// An element of a set, map or flowtable.
///
/// A node port has the unspecified address of its family. Elements are added in this order, so that
/// a front end is mapped to its pool for local clients before it is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    Range(RangeSet, IpNet),
    Interfaces(InterfaceSet, Interfaces),
    Address(AddressSet, IpAddr),
    /// A front end, and the address and port of the pool that it uses.
    Lead(Leads, VirtualAddress, IpAddr, u16),
    Port(PortSet, VirtualAddress),
    /// A front end of set `one-packet`, and the address of the pool that it uses.
    OnePacket(OnePacketLeads, VirtualAddress, IpAddr),
    /// A node port of set `one-packet`, and the port of its pools.
    OnePacketPort(VirtualAddress, u16),
    /// An element of `allowed`. The sources of a front end are disjoint.
    Allowed(VirtualAddress, IpNet),
    /// A link of the flowtable `carried`, which carries connections between its links.
    OffloadLink(InterfaceName),
}

impl Element {
    /// Returns the name of the set, map or flowtable.
    #[must_use]
    pub fn set(&self) -> &'static str {
        match self {
            Self::Range(set, _) => set.name(),
            Self::Interfaces(set, _) => set.name(),
            Self::Address(set, _) => set.name(),
            Self::Port(set, _) => set.name(),
            Self::Lead(map, ..) => map.name(),
            Self::OnePacket(map, ..) => map.name(),
            Self::OnePacketPort(..) => "one-packet-ports",
            Self::Allowed(..) => "allowed",
            Self::OffloadLink(_) => "carried",
        }
    }

    /// Returns the address family, and with it the table. Interfaces and links are in both tables.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Some(Family::of(match self {
            Self::Range(_, net) => net.addr(),
            Self::Address(_, ip) => *ip,
            Self::Port(_, address)
            | Self::Lead(_, address, ..)
            | Self::OnePacket(_, address, _)
            | Self::OnePacketPort(address, _)
            | Self::Allowed(address, _) => address.ip,
            Self::Interfaces(..) | Self::OffloadLink(_) => return None,
        }))
    }

    /// Returns the front end that this element maps to a pool or rejects. Other elements decide
    /// whether a front end drops.
    #[must_use]
    pub fn frontend(&self) -> Option<VirtualAddress> {
        match self {
            Self::Port(PortSet::Refused, address) => Some(*address),
            element => element.lead().map(|(frontend, _)| frontend),
        }
    }

    /// Returns the front end that this element maps to a pool, and the pool's address.
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
    /// Formats the element in the syntax of `nft`, without braces.
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
            Self::OnePacket(_, address, ip) => write!(f, "{} : {ip}", key(address)),
            Self::OnePacketPort(address, port) => write!(f, "{} : {port}", key(address)),
            Self::Allowed(address, net) => write!(f, "{} . {net}", key(address)),
            Self::OffloadLink(name) => name.fmt(f),
        }
    }
}
