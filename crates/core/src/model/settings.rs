//! The part of the configuration that affects the desired state.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Control, Interfaces, Name, Protocol, Scheduler, VirtualAddress};

/// The node's addresses that take node ports (`nodePortAddresses`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NodePortAddresses {
    /// The first InternalIP of each family: `primary`.
    #[default]
    Primary,
    /// The node's addresses in one of the ranges. A family without a range keeps its primary
    /// address.
    Ranges(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Returns all of the node's addresses: `all`.
    #[must_use]
    pub fn all() -> Self {
        Self::Ranges(vec![Ipv4Net::default().into(), Ipv6Net::default().into()])
    }
}

/// Detects the traffic of local pods (`detectLocalMode`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum LocalDetector {
    /// No detection: ClusterIP traffic is not masqueraded for its source.
    #[default]
    None,
    /// The source lies in one of these ranges (`clusterCIDR`).
    ClusterCidr(Vec<IpNet>),
    /// The source lies in one of the Node's `podCIDRs`.
    NodeCidr,
    /// The packet arrived through the bridge with this name (`BridgeInterface`), or through an
    /// interface with this name prefix (`InterfaceNamePrefix`).
    Interfaces(Interfaces),
}

/// The connections that leave IPVS after it has selected an endpoint (`carry`). IPVS schedules all
/// of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Carry {
    /// Those through front ends other than ClusterIPs: connection tracking carries them.
    #[default]
    FrontEnds,
    /// All. The pools of ClusterIPs are at their shadow addresses.
    All,
    /// All; a flowtable forwards established connections between these interfaces.
    Offload(Vec<Interfaces>),
}

impl Carry {
    /// Returns the interfaces between which a flowtable carries established connections.
    #[must_use]
    pub fn offload_interfaces(&self) -> &[Interfaces] {
        if let Self::Offload(interfaces) = self { interfaces } else { &[] }
    }
}

impl fmt::Display for Carry {
    /// Formats the value as in the configuration.
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
    /// Returns whether the port of an address is included.
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

/// A text is not [`Ports`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is neither a port such as 22/tcp nor a range such as 51820-51821/udp")]
pub struct ParsePortsError(String);

impl FromStr for Ports {
    type Err = ParsePortsError;

    /// Parses `PORT[-PORT][/tcp|udp|sctp]`; the protocol defaults to TCP.
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

/// Returns the default of [`Settings::protected_node_ports`]: SSH, BGP, etcd, the API server,
/// MetalLB, kube-proxy, the kubelet, controllers, and tunnels of VXLAN, Geneve and WireGuard.
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

/// The part of the configuration that affects the desired state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The name of this node's Node object.
    pub node_name: Name,
    pub scheduler: Scheduler,
    pub node_port_addresses: NodePortAddresses,
    /// `detectLocalMode` with its parameters.
    pub local_detector: LocalDetector,
    /// `masqueradeAll`: every ClusterIP connection is masqueraded.
    pub masquerade_all: bool,
    /// Service ranges for an API without ServiceCIDR objects.
    pub service_cidrs: Vec<IpNet>,
    /// Serves the Services with this label value, instead of those without the label.
    pub service_proxy_name: Option<Name>,
    /// How long established connections to a removed endpoint may continue; zero ends them at once.
    pub drain_period: Duration,
    /// `carry` and `offloadInterfaces`.
    pub carry: Carry,
    /// `onePacketEverywhere`: connection tracking translates no datagrams of option `one-packet`, so it
    /// works for all clients and at all front ends.
    pub one_packet_everywhere: bool,
    /// Ports of the node's own addresses that no external or load balancer IP takes.
    pub protected_node_ports: Vec<Ports>,
    /// `defaults`: the options of Services without annotations.
    pub defaults: Control,
    /// `canary`: the agent has a Service of its own, over which it probes its data path.
    pub canary: bool,
}

impl Settings {
    /// The default of [`Settings::drain_period`].
    pub const DRAIN_PERIOD: Duration = Duration::from_secs(300);

    /// Returns the defaults for a node: scheduler `rr`, primary address, no detector.
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
            one_packet_everywhere: false,
            protected_node_ports: protected_node_ports(),
            defaults: Control::default(),
            canary: false,
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
