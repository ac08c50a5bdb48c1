//! Front ends: where clients lookup and what becomes of them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Name, VirtualAddress, image_ranges, images};

/// What kind of address a front end stands at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.ports[].nodePort` at one of the node's addresses.
    NodePort,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
}

/// By what right a Service has a front end. The least wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Right {
    /// The API server has allocated the address from a range of the cluster's own.
    Cluster,
    /// The API server or a controller has granted it: a node port, an address in the status.
    Granted,
    /// The Service's author has written it.
    Written,
}

impl FrontendKind {
    /// By what right a Service has such a front end.
    #[must_use]
    pub fn right(self) -> Right {
        match self {
            Self::ClusterIp => Right::Cluster,
            Self::NodePort | Self::LoadBalancer => Right::Granted,
            Self::ExternalIp => Right::Written,
        }
    }

    /// Whether the address is written in the Service, by its author or a controller, and may be that of
    /// anything.
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

/// Which of the [`images`] of a ClusterIP. Each is for the pool of one traffic policy, so that no change
/// of place leads a client to endpoints of the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shadow {
    /// For the pool of the policy that the ClusterIP has not.
    First,
    /// For that of the ClusterIP's own policy, where connection tracking carries ClusterIPs
    /// ([`Carry`](super::Carry)) or a process of the node answers at the ClusterIP.
    Second,
    /// Instead of the first, where something else lies among these.
    Third,
    /// Instead of the second, likewise.
    Fourth,
}

impl Shadow {
    /// That of a ClusterIP.
    #[must_use]
    pub fn of(self, cluster_ip: IpAddr) -> IpAddr {
        self.among(images(cluster_ip))
    }

    /// That of a range of ClusterIPs.
    #[must_use]
    pub fn of_range(self, range: IpNet) -> IpNet {
        self.among(image_ranges(range))
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

/// What becomes of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The pool at the ClusterIP balances it.
    Pool,
    /// The pool at an image of the ClusterIP balances it.
    Shadow(Shadow),
    /// The client is told at once that there is no endpoint.
    Reject,
    /// It is dropped without an answer.
    Drop,
}

/// Whose source address is translated on the way to a backend. A backend that is sent to itself
/// always has it translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// That of clients other than pods.
    UnlessPod,
    /// That of this node's own processes.
    OwnProcesses,
    /// Everybody's.
    Always,
}

/// Where clients lookup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Address, port and protocol. A node port has the unspecified address of its family.
    pub address: VirtualAddress,
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// Name of the Service port, empty where it has none.
    pub port_name: Name,
    /// The Service port at the ClusterIP, where the pool stands.
    pub pool: VirtualAddress,
    /// For pods of this node and processes in the node's own network.
    pub inside: Target,
    /// For all others.
    pub outside: Target,
    /// Whose source address is translated.
    pub masquerade: Masquerade,
    /// Who may connect; `None` for anyone. Ranges of the front end's family, disjoint.
    pub sources: Option<Box<[IpNet]>>,
}

impl Frontend {
    /// Where it leads insiders and outsiders.
    #[must_use]
    pub fn targets(&self) -> [Target; 2] {
        [self.inside, self.outside]
    }

    /// The same front end with other targets.
    #[must_use]
    pub fn leading_to(self, [inside, outside]: [Target; 2]) -> Self {
        Self { inside, outside, ..self }
    }

    /// The addresses at which a pool that balances its connections may stand.
    pub fn places(&self) -> impl Iterator<Item = VirtualAddress> + use<> {
        self.pool.pool_places()
    }

    /// The pool that balances a connection, if any does.
    #[must_use]
    pub fn pool_of(&self, target: Target) -> Option<VirtualAddress> {
        let ip = match target {
            Target::Pool => self.pool.ip,
            Target::Shadow(image) => image.of(self.pool.ip),
            Target::Reject | Target::Drop => return None,
        };
        Some(self.pool.at(ip))
    }
}
