//! The part of the configuration that decides what the kernel should hold.

use std::fmt;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Interfaces, Name, Scheduler};

/// Which of the node's addresses take node ports (`nodePortAddresses`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NodePortAddresses {
    /// The first InternalIP of each family: `primary`.
    #[default]
    Primary,
    /// Those of the node's addresses that lie in one of the ranges. A family without a range
    /// keeps its primary address.
    Ranges(Vec<IpNet>),
}

impl NodePortAddresses {
    /// All of the node's addresses: `all`.
    #[must_use]
    pub fn all() -> Self {
        Self::Ranges(vec![Ipv4Net::default().into(), Ipv6Net::default().into()])
    }
}

/// How a local pod's traffic is told from other traffic (`detectLocalMode`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LocalDetector {
    /// Nothing is told apart: no ClusterIP traffic is masqueraded for its source.
    #[default]
    None,
    /// The source lies in one of these ranges (`clusterCIDR`).
    ClusterCidr(Vec<IpNet>),
    /// The source lies in one of the Node's `podCIDRs`.
    NodeCidr,
    /// The packet came in through the bridge of this name (`BridgeInterface`), or through an
    /// interface whose name begins so (`InterfaceNamePrefix`).
    Interfaces(Interfaces),
}

/// Which connections leave IPVS once it has picked an endpoint (`carry`). IPVS schedules all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Carry {
    /// Those through front ends other than ClusterIPs: connection tracking carries them.
    #[default]
    FrontEnds,
    /// All. Pools of ClusterIPs stand at their images.
    All,
    /// All, and established ones pass the node by a flowtable, between these interfaces.
    Offload(Vec<Interfaces>),
}

impl Carry {
    /// The interfaces between which a flowtable carries established connections.
    #[must_use]
    pub fn offload_interfaces(&self) -> &[Interfaces] {
        if let Self::Offload(interfaces) = self { interfaces } else { &[] }
    }
}

impl fmt::Display for Carry {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrontEnds => "front-ends",
            Self::All => "all",
            Self::Offload(_) => "offload",
        })
    }
}

/// What of the configuration decides the desired state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The name of this node, as its Node object has it.
    pub node_name: Name,
    /// `ipvs.scheduler`.
    pub scheduler: Scheduler,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// `detectLocalMode` with what it needs.
    pub local_detector: LocalDetector,
    /// `masqueradeAll`: every ClusterIP connection is masqueraded.
    pub masquerade_all: bool,
    /// Ranges to take for service ranges where the API has no ServiceCIDR objects.
    pub service_cidrs: Vec<IpNet>,
    /// The Services that are labelled so are served, instead of those without such a label.
    pub service_proxy_name: Option<Name>,
    /// How long established connections to an endpoint that has left may go on. Zero: not at all.
    pub drain_period: Duration,
    /// `carry`, and `offloadInterfaces`.
    pub carry: Carry,
}

impl Settings {
    /// The default of [`Settings::drain_period`].
    pub const DRAIN_PERIOD: Duration = Duration::from_secs(300);

    /// Defaults for a node: scheduler `rr`, primary address, no detector.
    #[must_use]
    pub fn for_node(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            scheduler: Scheduler::default(),
            node_port_addresses: NodePortAddresses::default(),
            local_detector: LocalDetector::default(),
            masquerade_all: false,
            service_cidrs: Vec::new(),
            service_proxy_name: None,
            drain_period: Self::DRAIN_PERIOD,
            carry: Carry::default(),
        }
    }
}
