//! Front ends: the addresses of a Service, and how their connections are handled.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Name, VirtualAddress, shadow_addresses, shadow_ranges};

/// The kind of a front end's address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    ClusterIp,
    /// `spec.ports[].nodePort` at one of the node's addresses.
    NodePort,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    ExternalIp,
}

/// The precedence of a Service's claim to a front end; the least wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Right {
    /// The API server allocated the address from a service range.
    Cluster,
    /// The API server or a controller assigned it: a node port, an address in the status.
    Granted,
    /// The Service's author wrote it.
    Written,
}

impl FrontendKind {
    /// Returns the precedence of a claim to such a front end.
    #[must_use]
    pub fn right(self) -> Right {
        match self {
            Self::ClusterIp => Right::Cluster,
            Self::NodePort | Self::LoadBalancer => Right::Granted,
            Self::ExternalIp => Right::Written,
        }
    }

    /// Returns whether the Service's author or a controller chose the address. Such an address may
    /// belong to any host.
    #[must_use]
    pub fn is_external(self) -> bool {
        matches!(self, Self::ExternalIp | Self::LoadBalancer)
    }
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        })
    }
}

/// Selects one of the [`shadow_addresses`] of a ClusterIP. Each serves the pool of one traffic policy,
/// so a pool that moves never sends clients to endpoints of the other policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shadow {
    /// For the pool of the policy that the ClusterIP does not have.
    First,
    /// For the pool of the ClusterIP's own policy, if connection tracking carries ClusterIPs
    /// ([`Carry`](super::Carry)) or a process of the node answers at the ClusterIP.
    Second,
    /// Replaces the first, if its range has another use.
    Third,
    /// Replaces the second, if its range has another use.
    Fourth,
}

impl Shadow {
    /// Returns this shadow address of a ClusterIP.
    #[must_use]
    pub fn of(self, cluster_ip: IpAddr) -> IpAddr {
        self.among(shadow_addresses(cluster_ip))
    }

    /// Returns this shadow range of a range of ClusterIPs.
    #[must_use]
    pub fn of_range(self, range: IpNet) -> IpNet {
        self.among(shadow_ranges(range))
    }

    fn among<T>(self, [first, second, third, fourth]: [T; 4]) -> T {
        match self {
            Self::First => first,
            Self::Second => second,
            Self::Third => third,
            Self::Fourth => fourth,
        }
    }
}

/// The handling of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The pool at the ClusterIP balances it.
    Pool,
    /// The pool at a shadow address of the ClusterIP balances it.
    Shadow(Shadow),
    /// The client gets an immediate error: there is no endpoint.
    Reject,
    Drop,
}

/// Selects the clients whose source address is translated on the way to a backend. A backend that
/// connects to itself is always translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// Clients other than pods.
    UnlessPod,
    /// This node's own processes.
    OwnProcesses,
    /// All clients.
    Always,
    /// None: UDP datagrams are balanced one by one, and connection tracking translates none.
    Never,
}

/// An address of a Service, and how its connections are handled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// A node port has the unspecified address of its family.
    pub address: VirtualAddress,
    pub kind: FrontendKind,
    /// The name of the Service port; empty for an unnamed port.
    pub port_name: Name,
    /// The Service port at the ClusterIP.
    pub pool: VirtualAddress,
    /// For local clients: pods and processes of this node.
    pub inside: Target,
    /// For external clients.
    pub outside: Target,
    pub masquerade: Masquerade,
    /// Allowed source ranges of the front end's family, disjoint; `None` allows all.
    pub sources: Option<Box<[IpNet]>>,
}

impl Frontend {
    /// Returns the targets of local and external clients.
    #[must_use]
    pub fn targets(&self) -> [Target; 2] {
        [self.inside, self.outside]
    }

    /// Returns the same front end with other targets.
    #[must_use]
    pub fn leading_to(self, [inside, outside]: [Target; 2]) -> Self {
        Self { inside, outside, ..self }
    }

    /// Returns the possible addresses of a pool that balances its connections.
    pub fn places(&self) -> impl Iterator<Item = VirtualAddress> + use<> {
        self.pool.pool_places()
    }

    /// Returns the address of the pool that balances a connection, if any.
    #[must_use]
    pub fn pool_of(&self, target: Target) -> Option<VirtualAddress> {
        let ip = match target {
            Target::Pool => self.pool.ip,
            Target::Shadow(shadow) => shadow.of(self.pool.ip),
            Target::Reject | Target::Drop => return None,
        };
        Some(self.pool.at(ip))
    }
}
