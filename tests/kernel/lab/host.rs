//! The hosts of the lab and their addresses.

use std::fmt;
use std::net::IpAddr;

use kube_ipvs_core::model::Family;

/// A host of the lab: two nodes with two pods each, and one host that knows no pod.
///
/// ```text
///        P1  P2        P3  P4
///         └┬─┘          └┬─┘
///         N1 (agent)     N2        C
///          └──── switch ─┴─────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Host {
    /// Node `n1`, where the agent under test runs.
    N1,
    /// Node `n2`.
    N2,
    /// A pod on `n1`.
    P1,
    /// Another pod on `n1`.
    P2,
    /// A pod on `n2`.
    P3,
    /// Another pod on `n2`.
    P4,
    /// An external client on the nodes' network; `n1` is its way to service addresses.
    C,
}

impl Host {
    /// Every host.
    pub(crate) const ALL: [Self; 7] =
        [Self::N1, Self::N2, Self::P1, Self::P2, Self::P3, Self::P4, Self::C];
    /// The pods.
    pub(crate) const PODS: [Self; 4] = [Self::P1, Self::P2, Self::P3, Self::P4];

    /// How the host is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::N1 => "N1",
            Self::N2 => "N2",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P4 => "P4",
            Self::C => "C",
        }
    }

    /// The host with a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|host| host.name() == name)
    }

    /// The Kubernetes node that the host is or, for a pod, runs on.
    pub(crate) fn node(self) -> Option<&'static str> {
        match self {
            Self::N1 | Self::P1 | Self::P2 => Some("n1"),
            Self::N2 | Self::P3 | Self::P4 => Some("n2"),
            Self::C => None,
        }
    }

    /// The host's address of a family.
    pub(crate) fn ip(self, family: Family) -> IpAddr {
        let (v4, v6) = match self {
            Self::N1 => ([192, 168, 50, 1], "fd00:50::1"),
            Self::N2 => ([192, 168, 50, 2], "fd00:50::2"),
            Self::C => ([192, 168, 50, 100], "fd00:50::100"),
            Self::P1 => ([10, 244, 1, 11], "fd00:244:1::11"),
            Self::P2 => ([10, 244, 1, 12], "fd00:244:1::12"),
            Self::P3 => ([10, 244, 2, 13], "fd00:244:2::13"),
            Self::P4 => ([10, 244, 2, 14], "fd00:244:2::14"),
        };
        match family {
            Family::V4 => IpAddr::from(v4),
            Family::V6 => v6.parse().expect("an IPv6 address"),
        }
    }

    /// Whether an address is one of the host's. A node also has the gateway address of its pods.
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        let family = Family::of(ip);
        ip == self.ip(family)
            || match self {
                Self::N1 => ip == gateway(1, family),
                Self::N2 => ip == gateway(2, family),
                _ => false,
            }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address that the pods of a node have as their gateway.
pub(crate) fn gateway(node: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 244, node, 1]),
        Family::V6 => format!("fd00:244:{node}::1").parse().expect("an IPv6 address"),
    }
}
