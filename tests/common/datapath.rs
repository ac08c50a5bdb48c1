//! The handling of a new connection by a model kernel: nf_tables chains, routes and IPVS, in the
//! order of the packet path.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube_ipvs_core::explain::{Explanation, Verdict};
use kube_ipvs_core::model::{
    AddressSet, Element, InterfaceSet, Leads, OnePacketLeads, PortSet, RangeSet, VirtualAddress,
};

use super::model_kernel::{KernelState, Server};

#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// A process in the node's own network namespace, with its source address.
    Node(IpAddr),
    /// A client whose packets arrive through an interface of pods.
    Pod(IpAddr),
    /// A client whose packets arrive through another interface.
    Other(IpAddr),
}

/// The handling of a connection: the possible backends, each with whether the source is translated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Forward(BTreeSet<(SocketAddr, bool)>),
    Reject,
    Drop,
    Pass,
}

impl From<&Explanation> for Action {
    fn from(explanation: &Explanation) -> Self {
        match explanation.verdict {
            Verdict::Forward => Self::Forward(
                explanation
                    .backends
                    .iter()
                    .map(|it| (SocketAddr::new(it.backend.address, it.backend.port), it.masquerade))
                    .collect(),
            ),
            Verdict::Reject => Self::Reject,
            Verdict::Drop => Self::Drop,
            Verdict::Pass => Self::Pass,
        }
    }
}

impl Action {
    pub fn backends(&self) -> BTreeSet<SocketAddr> {
        match self {
            Self::Forward(backends) => backends.iter().map(|(socket, _)| *socket).collect(),
            _ => BTreeSet::new(),
        }
    }

    pub fn is_forward(&self) -> bool {
        matches!(self, Self::Forward(_))
    }

    /// Returns whether connections to this backend have their source translated; `None` if it is
    /// not a backend.
    pub fn translates(&self, backend: SocketAddr) -> Option<bool> {
        match self {
            Self::Forward(all) if all.contains(&(backend, true)) => Some(true),
            Self::Forward(all) if all.contains(&(backend, false)) => Some(false),
            _ => None,
        }
    }
}

impl Client {
    fn source(self) -> IpAddr {
        let (Self::Node(ip) | Self::Pod(ip) | Self::Other(ip)) = self;
        ip
    }

    pub fn is_node(self) -> bool {
        matches!(self, Self::Node(_))
    }
}

/// The target of a connection's first packet.
enum Lead {
    /// An address, possibly the original one.
    To(VirtualAddress),
    Done(Action),
}

impl KernelState {
    /// Returns the handling of a new connection. `own` are the node's addresses.
    pub fn action(&self, destination: VirtualAddress, client: Client, own: &[IpAddr]) -> Action {
        let to = match self.lead(destination, client, own) {
            Lead::To(address) => address,
            Lead::Done(action) => return action,
        };
        let is_routed_here =
            self.routes.values().any(|route| route.prefix.contains(&to.ip)) || own.contains(&to.ip);
        if !is_routed_here {
            return Action::Pass;
        }
        if let Some(server) = self.servers.get(&to) {
            return self.serve(server, destination, client, own);
        }
        // Chain `input`: packets that IPVS did not take.
        if self.has(Element::Address(AddressSet::Pools, to.ip))
            && !self.has(Element::Port(PortSet::LocalSockets, to))
        {
            Action::Reject
        } else {
            Action::Pass
        }
    }

    /// Chains `prerouting` and `output`.
    fn lead(&self, destination: VirtualAddress, client: Client, own: &[IpAddr]) -> Lead {
        let VirtualAddress { ip, port, protocol } = destination;
        if let Some(lead) = self.one_packet(destination, client) {
            return lead;
        }
        if !self.has(Element::Address(AddressSet::FrontendIps, ip)) {
            let is_unallocated = !self.is_cluster_ip(ip)
                && self.in_range(ip, service_range)
                && !self.in_range(ip, reachable);
            return if is_unallocated { Lead::Done(Action::Drop) } else { Lead::To(destination) };
        }
        let led = |frontend, matches: fn(&Element) -> bool| {
            let mut leads = self.elements.iter().filter(|element| matches(element));
            leads.find_map(|element| {
                element.lead().filter(|(from, _)| *from == frontend).map(|(_, to)| Lead::To(to))
            })
        };
        let insider = self.is_insider(client);
        let both = |element: &Element| matches!(element, Element::Lead(Leads::Everybody, ..));
        let side: fn(&Element) -> bool = if insider {
            |element| matches!(element, Element::Lead(Leads::Insiders, ..))
        } else {
            |element| matches!(element, Element::Lead(Leads::Outsiders, ..))
        };
        let refused = |frontend| {
            self.has(Element::Port(PortSet::Refused, frontend))
                .then_some(Lead::Done(Action::Reject))
        };
        let dropped = |frontend| {
            self.has(Element::Port(PortSet::Dropped, frontend)).then_some(Lead::Done(Action::Drop))
        };
        let node_port = VirtualAddress::node_port(destination.family(), port, protocol);
        let takes_node_ports = self.has(Element::Address(AddressSet::NodePortIps, ip));
        let at_node_port = |find: &dyn Fn(VirtualAddress) -> Option<Lead>| {
            takes_node_ports.then(|| find(node_port)).flatten()
        };
        led(destination, both)
            .or_else(|| {
                self.is_barred(destination, client.source()).then_some(Lead::Done(Action::Drop))
            })
            .or_else(|| at_node_port(&|it| led(it, both)))
            .or_else(|| led(destination, side))
            .or_else(|| at_node_port(&|it| led(it, side)))
            .or_else(|| at_node_port(&refused))
            .or_else(|| at_node_port(&dropped))
            .or_else(|| refused(destination))
            .or_else(|| dropped(destination))
            .or_else(|| {
                self.has(Element::Address(AddressSet::Images, ip))
                    .then_some(Lead::Done(Action::Reject))
            })
            .or_else(|| {
                let passes = insider
                    || self.has(Element::Address(AddressSet::Pools, ip))
                    || own.contains(&ip)
                    || self.in_range(ip, reachable);
                (!passes).then_some(Lead::Done(Action::Reject))
            })
            .unwrap_or(Lead::To(destination))
    }

    /// Chains `datagrams` and `datagrams-sent`.
    fn one_packet(&self, destination: VirtualAddress, client: Client) -> Option<Lead> {
        let frontend = self.one_packet_frontend(destination)?;
        if frontend == destination && self.is_barred(destination, client.source()) {
            return Some(Lead::Done(Action::Drop));
        }
        let map = if self.is_insider(client) {
            OnePacketLeads::Insiders
        } else {
            OnePacketLeads::Outsiders
        };
        let find =
            |of: &dyn Fn(&Element) -> Option<VirtualAddress>| self.elements.iter().find_map(of);
        let at = find(&|element| match *element {
            Element::OnePacket(of, from, ip) => {
                (of == map && from == frontend).then(|| destination.at(ip))
            }
            _ => None,
        })?;
        let with_port = find(&|element| match *element {
            Element::OnePacketPort(from, port) => {
                (from == frontend).then_some(VirtualAddress { port, ..at })
            }
            _ => None,
        });
        Some(Lead::To(with_port.unwrap_or(at)))
    }

    /// Returns the front end whose datagrams bypass connection tracking, if any.
    fn one_packet_frontend(&self, destination: VirtualAddress) -> Option<VirtualAddress> {
        let mut frontends = self.frontends_at(destination);
        frontends.find(|it| self.has(Element::Port(PortSet::OnePacket, *it)))
    }

    /// Returns the front ends that may match a destination: itself, and a node port.
    fn frontends_at(
        &self,
        destination: VirtualAddress,
    ) -> impl Iterator<Item = VirtualAddress> + use<> {
        let VirtualAddress { ip, port, protocol } = destination;
        let node_port = VirtualAddress::node_port(destination.family(), port, protocol);
        let at_node_port =
            self.has(Element::Address(AddressSet::NodePortIps, ip)).then_some(node_port);
        [Some(destination), at_node_port].into_iter().flatten()
    }

    fn serve(
        &self,
        server: &Server,
        destination: VirtualAddress,
        client: Client,
        own: &[IpAddr],
    ) -> Action {
        let (source, is_node) = (client.source(), client.is_node());
        let is_tracked = self.one_packet_frontend(destination).is_none();
        let translated = self.is_masqueraded(destination, client);
        let usable = server.reals.iter().filter(|(_, weight)| **weight > 0);
        let backends: BTreeSet<_> = usable
            .map(|(&(ip, port), _)| {
                let hairpin = ip == source && self.has(Element::Address(AddressSet::Hairpin, ip));
                // Packets from other hosts that stay on the node never reach chain `postrouting`.
                let sent_on = is_node || !own.contains(&ip);
                (SocketAddr::new(ip, port), is_tracked && sent_on && (translated || hairpin))
            })
            .collect();
        if backends.is_empty() { Action::Reject } else { Action::Forward(backends) }
    }

    /// Chain `postrouting`.
    fn is_masqueraded(&self, destination: VirtualAddress, client: Client) -> bool {
        let ip = destination.ip;
        if self.has(Element::Address(AddressSet::Pools, ip)) || self.is_cluster_ip(ip) {
            return !self.is_pod(client);
        }
        self.frontends_at(destination).any(|frontend| {
            self.has(Element::Port(PortSet::Masqueraded, frontend))
                || client.is_node() && self.has(Element::Port(PortSet::MasqueradedNode, frontend))
        })
    }

    fn has(&self, element: Element) -> bool {
        self.elements.contains(&element)
    }

    fn is_cluster_ip(&self, ip: IpAddr) -> bool {
        let sets = [AddressSet::ClusterIps, AddressSet::SeveralPorts];
        sets.into_iter().any(|set| self.has(Element::Address(set, ip)))
    }

    /// Returns whether a client counts as a pod, whose ClusterIP connections keep their source.
    pub fn is_pod(&self, client: Client) -> bool {
        let behind =
            |element: &Element| matches!(element, Element::Interfaces(InterfaceSet::Pods, _));
        self.in_range(client.source(), pods)
            || matches!(client, Client::Pod(_)) && self.elements.iter().any(behind)
    }

    /// Returns whether a client counts as this node or one of its pods.
    pub fn is_insider(&self, client: Client) -> bool {
        let behind =
            |element: &Element| matches!(element, Element::Interfaces(InterfaceSet::Insiders, _));
        self.in_range(client.source(), insiders)
            || matches!(client, Client::Pod(_)) && self.elements.iter().any(behind)
    }

    fn is_barred(&self, address: VirtualAddress, source: IpAddr) -> bool {
        let allows = |element: &Element| match element {
            Element::Allowed(allowed, range) => *allowed == address && range.contains(&source),
            _ => false,
        };
        self.has(Element::Port(PortSet::Restricted, address)) && !self.elements.iter().any(allows)
    }

    fn in_range(&self, ip: IpAddr, of: fn(&Element) -> Option<&IpNet>) -> bool {
        self.elements.iter().filter_map(of).any(|range| range.contains(&ip))
    }
}

fn service_range(element: &Element) -> Option<&IpNet> {
    if let Element::Range(RangeSet::ServiceRanges, range) = element { Some(range) } else { None }
}

fn reachable(element: &Element) -> Option<&IpNet> {
    if let Element::Range(RangeSet::Reachable, range) = element { Some(range) } else { None }
}

fn pods(element: &Element) -> Option<&IpNet> {
    if let Element::Range(RangeSet::Pods, range) = element { Some(range) } else { None }
}

fn insiders(element: &Element) -> Option<&IpNet> {
    if let Element::Range(RangeSet::Insiders, range) = element { Some(range) } else { None }
}
