//! What becomes of a new connection in a kernel that holds this: the chains of our table, the
//! routes and IPVS, in the order in which a packet meets them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube_ipvs::explain::{Explanation, Verdict};
use kube_ipvs::model::{Element, Family, RouteTable, VirtualAddress};

use super::model_kernel::{Holdings, Server};

/// Who opens a connection.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// A process in the node's own network, with the source address that it would have.
    Node(IpAddr),
    /// Somebody whose packets come in through an interface that pods are behind.
    Pod(IpAddr),
    /// Somebody whose packets come in otherwise.
    Other(IpAddr),
}

/// What becomes of a connection: whom it may go to, and whether with its source translated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Forward(BTreeSet<(SocketAddr, bool)>),
    Reject,
    Drop,
    Pass,
}

impl From<&Explanation> for Fate {
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

impl Fate {
    pub fn backends(&self) -> BTreeSet<SocketAddr> {
        match self {
            Self::Forward(backends) => backends.iter().map(|(socket, _)| *socket).collect(),
            _ => BTreeSet::new(),
        }
    }

    pub fn is_forward(&self) -> bool {
        matches!(self, Self::Forward(_))
    }

    /// Whether the way to this backend translates the source; `None` if it is not one of them.
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

impl Holdings {
    /// What becomes of a new connection. `own` are the node's addresses.
    pub fn fate(&self, knocked: VirtualAddress, client: Client, own: &[IpAddr]) -> Fate {
        let (source, is_node) = (client.source(), client.is_node());
        let is_image = self.in_range(knocked.ip, image_range);
        // Chains `out` and `pre`.
        if is_node && is_image {
            return Fate::Reject;
        }
        let refused = |address| self.elements.contains(&Element::Refused(address));
        let insider = is_node || self.is_local_pod(client);
        if insider && self.is_barred(knocked, source) {
            return Fate::Drop;
        }
        if is_node && refused(knocked) {
            return Fate::Reject;
        }
        let shortcut = insider.then(|| self.shortcut(knocked, is_node)).flatten();
        let dropped = |address| self.elements.contains(&Element::Dropped(address));
        if is_node && shortcut.is_none() && dropped(knocked) {
            return Fate::Drop;
        }
        let to = shortcut.unwrap_or(knocked);
        if !self.is_routed_here(to, is_node, own) {
            return Fate::Pass;
        }
        // IPVS takes a process's packets on their way out, others' after chain `early`.
        let server = self.servers.get(&to);
        if let (true, Some(server)) = (is_node, server) {
            return self.serve(server, knocked, client, own);
        }
        if is_image {
            return Fate::Reject;
        }
        if self.is_barred(to, source) {
            return Fate::Drop;
        }
        if refused(to) {
            return Fate::Reject;
        }
        if dropped(to) {
            return Fate::Drop;
        }
        if let Some(server) = server {
            return self.serve(server, knocked, client, own);
        }
        self.late(to)
    }

    fn serve(
        &self,
        server: &Server,
        knocked: VirtualAddress,
        client: Client,
        own: &[IpAddr],
    ) -> Fate {
        let (source, is_node) = (client.source(), client.is_node());
        let translated = self.is_masqueraded(knocked, client);
        let usable = server.reals.iter().filter(|(_, weight)| **weight > 0);
        let backends: BTreeSet<_> = usable
            .map(|(&(ip, port), _)| {
                let hairpin = ip == source && self.elements.contains(&Element::Hairpin(ip));
                // What comes from elsewhere and stays here never gets to chain `post`.
                let sent_on = is_node || !own.contains(&ip);
                (SocketAddr::new(ip, port), sent_on && (translated || hairpin))
            })
            .collect();
        if backends.is_empty() { Fate::Reject } else { Fate::Forward(backends) }
    }

    /// Chain `late`: what IPVS did not take.
    fn late(&self, to: VirtualAddress) -> Fate {
        if self.elements.contains(&Element::ClusterIp(to.ip)) || self.in_range(to.ip, image_range) {
            Fate::Reject
        } else if self.in_range(to.ip, service_range) {
            Fate::Drop
        } else if self.elements.contains(&Element::Frontend(to)) {
            Fate::Reject
        } else {
            // Some port of an address that a Service has: refused if the address is not the
            // node's own, but nobody's either way.
            Fate::Pass
        }
    }

    /// Chain `post`.
    fn is_masqueraded(&self, knocked: VirtualAddress, client: Client) -> bool {
        let has = |element| self.elements.contains(&element);
        has(Element::ClusterIp(knocked.ip)) && !self.is_pod(client)
            || has(Element::Masquerade(knocked))
            || client.is_node() && has(Element::MasqueradeNode(knocked))
    }

    /// Whether a client counts as a pod, whose ClusterIP connections keep their source.
    pub fn is_pod(&self, client: Client) -> bool {
        let behind = |element: &Element| matches!(element, Element::PodInterfaces(_));
        self.in_range(client.source(), pods)
            || matches!(client, Client::Pod(_)) && self.elements.iter().any(behind)
    }

    /// Whether a client counts as one of this node's pods.
    pub fn is_local_pod(&self, client: Client) -> bool {
        let behind = |element: &Element| matches!(element, Element::LocalPodInterfaces(_));
        self.in_range(client.source(), local_pods)
            || matches!(client, Client::Pod(_)) && self.elements.iter().any(behind)
    }

    fn is_barred(&self, address: VirtualAddress, source: IpAddr) -> bool {
        let allows = |element: &Element| match element {
            Element::Allowed(allowed, range) => *allowed == address && range.contains(&source),
            _ => false,
        };
        self.elements.contains(&Element::Restricted(address)) && !self.elements.iter().any(allows)
    }

    fn shortcut(&self, knocked: VirtualAddress, is_node: bool) -> Option<VirtualAddress> {
        self.elements.iter().find_map(|element| match *element {
            Element::NodeShortcut(from, ip, port) if is_node && from == knocked => {
                Some(VirtualAddress { ip, port, ..knocked })
            }
            Element::PodShortcut(from, ip, port) if !is_node && from == knocked => {
                Some(VirtualAddress { ip, port, ..knocked })
            }
            _ => None,
        })
    }

    fn is_routed_here(&self, to: VirtualAddress, is_node: bool, own: &[IpAddr]) -> bool {
        let leads = |table| {
            self.routes.values().any(|route| route.table == table && route.prefix.contains(&to.ip))
        };
        let ruled = !is_node && self.rules.contains(&Family::of(to.ip));
        own.contains(&to.ip) || leads(RouteTable::Local) || ruled && leads(RouteTable::Own)
    }

    fn in_range(&self, ip: IpAddr, of: fn(&Element) -> Option<&IpNet>) -> bool {
        self.elements.iter().filter_map(of).any(|range| range.contains(&ip))
    }
}

fn image_range(element: &Element) -> Option<&IpNet> {
    if let Element::ImageRange(range) = element { Some(range) } else { None }
}

fn service_range(element: &Element) -> Option<&IpNet> {
    if let Element::ServiceRange(range) = element { Some(range) } else { None }
}

fn pods(element: &Element) -> Option<&IpNet> {
    if let Element::Pods(range) = element { Some(range) } else { None }
}

fn local_pods(element: &Element) -> Option<&IpNet> {
    if let Element::LocalPods(range) = element { Some(range) } else { None }
}
