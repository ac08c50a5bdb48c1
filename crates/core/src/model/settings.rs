//! The part of the configuration that decides what the kernel should hold.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Interfaces, Name, Protocol, Scheduler, VirtualAddress};

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

/// Ports of one protocol, written `2379-2380/tcp` or `22/tcp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    first: u16,
    last: u16,
    protocol: Protocol,
}

impl Ports {
    /// Whether a port is among them, at whatever address.
    #[must_use]
    pub fn contain(&self, address: &VirtualAddress) -> bool {
        self.protocol == address.protocol && (self.first..=self.last).contains(&address.port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, protocol } = self;
        write!(f, "{first}")?;
        if first < last {
            write!(f, "-{last}")?;
        }
        write!(f, "/{protocol}")
    }
}

/// Why a text is not [`Ports`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is neither a port such as 22/tcp nor a range such as 51820-51821/udp")]
pub struct ParsePortsError(String);

impl FromStr for Ports {
    type Err = ParsePortsError;

    /// Reads `PORT[-PORT][/tcp|udp|sctp]`; TCP where no protocol is named.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePortsError(text.to_owned());
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let named = |it: &Protocol| it.name().eq_ignore_ascii_case(protocol.trim());
        let protocol = Protocol::ALL.into_iter().find(named).ok_or_else(error)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| error());
        let (first, last) = (number(first)?, number(last)?);
        if first == 0 || last < first {
            return Err(error());
        }
        Ok(Self { first, last, protocol })
    }
}

/// The default of [`Settings::protected_node_ports`]: SSH, BGP, etcd, the API server, MetalLB,
/// kube-proxy's and the kubelet's ports, controllers; tunnels of VXLAN, Geneve and WireGuard.
#[must_use]
pub fn protected_node_ports() -> Vec<Ports> {
    use Protocol::{Tcp, Udp};
    [
        (22, 22, Tcp),
        (179, 179, Tcp),
        (2379, 2380, Tcp),
        (6443, 6443, Tcp),
        (7946, 7946, Tcp),
        (10249, 10250, Tcp),
        (10256, 10259, Tcp),
        (4789, 4789, Udp),
        (6081, 6081, Udp),
        (7946, 7946, Udp),
        (8472, 8472, Udp),
        (51820, 51821, Udp),
    ]
    .map(|(first, last, protocol)| Ports { first, last, protocol })
    .into()
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
    /// `protectedNodePorts`: ports of the node's own addresses that no external or load balancer IP
    /// takes.
    pub protected_node_ports: Vec<Ports>,
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
            protected_node_ports: protected_node_ports(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        for ports in protected_node_ports() {
            assert_eq!(ports.to_string().parse(), Ok(ports));
        }
        assert_eq!("22".parse::<Ports>().map(|it| it.to_string()).as_deref(), Ok("22/tcp"));
        for text in ["", "0", "22/icmp", "23-22", "1-", "70000", "22/tcp/udp"] {
            assert!(text.parse::<Ports>().is_err(), "{text}");
        }
    }
}
