//! Routes that make service addresses local to the node.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// A route of type `local` on [`LOOPBACK`], in the kernel's table `local`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// The addresses made local.
    pub prefix: IpNet,
    /// The source address of this node's own packets to `prefix`.
    pub source: Option<IpAddr>,
}

impl Route {
    /// The address family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.prefix.addr())
    }
}

/// Name of our nf_tables tables.
pub const NAME: &str = "kube-ipvs";
/// Name of the empty dummy device that tells other software that IPVS serves here. Calico's Felix
/// polices connections to Services only while a device of exactly this name exists; it is kube-proxy's,
/// which keeps Services' addresses on it.
pub const DEVICE: &str = "kube-ipvs0";
/// Name of the device that our routes are on. It cannot be deleted, and a device that loses its last
/// IPv4 address loses its IPv4 routes (`fib_inetaddr_event`), as kube-proxy's will.
pub const LOOPBACK: &str = "lo";
/// `rtm_protocol` of our routes.
pub const ROUTE_PROTOCOL: u8 = 75;
/// Metric of our routes. The kernel replaces what has the same prefix, table and metric: with one of
/// their own, ours never replace another's, and yield to the kernel's routes of the node's addresses.
pub const ROUTE_METRIC: u32 = 75;

impl fmt::Display for Route {
    /// The arguments that `ip route add` takes for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local {} dev {LOOPBACK} table local proto {ROUTE_PROTOCOL}", self.prefix)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {ROUTE_METRIC}")
    }
}
