//! Routes that make service addresses local to the node.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// The routing table that a route stands in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RouteTable {
    /// The kernel's table `local` (255).
    Local,
    /// Our own, which earlier versions had for load balancer and external IPs.
    Own,
}

/// A route of type `local` on our device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    /// The addresses made local.
    pub prefix: IpNet,
    /// Where it stands.
    pub table: RouteTable,
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

/// Name of everything of ours that has one: device, nf_tables tables.
pub const NAME: &str = "kube-ipvs";
/// `rtm_protocol` of our routes and rules.
pub const ROUTE_PROTOCOL: u8 = 75;
/// Metric of our routes. The kernel replaces what has the same prefix, table and metric: with one of
/// their own, ours never replace another's, and yield to the kernel's routes of the node's addresses.
pub const ROUTE_METRIC: u32 = 75;
/// Number of our routing table.
pub const ROUTE_TABLE: u32 = 7575;
/// Priority of the rule that leads to our routing table.
pub const RULE_PRIORITY: u32 = 75;

impl fmt::Display for Route {
    /// The arguments that `ip route add` takes for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "local {} dev {NAME} table ", self.prefix)?;
        match self.table {
            RouteTable::Local => f.write_str("local")?,
            RouteTable::Own => write!(f, "{ROUTE_TABLE}")?,
        }
        write!(f, " proto {ROUTE_PROTOCOL}")?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " metric {ROUTE_METRIC}")
    }
}
