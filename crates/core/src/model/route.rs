//! Routes that make service addresses local to the node.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// A route of type `local` on [`LOOPBACK`], in the kernel's table `local`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// The addresses that become local.
    pub prefix: IpNet,
    /// The source address of the node's own packets to `prefix`.
    pub source: Option<IpAddr>,
}

impl Route {
    /// Returns the address family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.prefix.addr())
    }
}

/// The name of the agent's nf_tables tables.
pub const NAME: &str = "kube-ipvs";
/// The name of the empty dummy device that announces IPVS to other software. Calico's Felix polices
/// connections to Services only while a device of exactly this name exists. The name is
/// kube-proxy's, which keeps the Services' addresses on the device.
pub const DEVICE: &str = "kube-ipvs0";
/// The name of the device of the agent's routes. It cannot be deleted. A device that loses its last
/// IPv4 address loses its IPv4 routes (`fib_inetaddr_event`), as kube-proxy's device does.
pub const LOOPBACK: &str = "lo";
/// `rtm_protocol` of the agent's routes.
pub const ROUTE_PROTOCOL: u8 = 75;
/// The metric of the agent's routes. The kernel replaces a route with the same prefix, table and
/// metric. With a separate metric, the agent's routes never replace other routes and yield to the
/// kernel's routes of the node's addresses.
pub const ROUTE_METRIC: u32 = 75;

impl fmt::Display for Route {
    /// Formats the route as the arguments of `ip route add`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local {} dev {LOOPBACK} table local proto {ROUTE_PROTOCOL}", self.prefix)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {ROUTE_METRIC}")
    }
}
