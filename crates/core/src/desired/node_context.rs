//! The input of the desired state besides Services and their endpoints.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::overlaps::overlaps;
use super::ranges::{aggregate, contain};
use super::shadows::{self, ShadowsOf};
use crate::model::{
    Carry, Family, Link, Name, Node, NodePortAddresses, RefusalReason, Scheduler, Settings, Shadow,
    VirtualAddress, shadow_ranges,
};

/// Observations of the node and the cluster.
#[derive(Clone, Debug, Default)]
pub struct Surveyed<'a> {
    pub node: Option<&'a Node>,
    pub interfaces: &'a [IpAddr],
    /// The node's source address for packets to other hosts, one per family that has one.
    pub source_ips: &'a [IpAddr],
    pub lacks_ipv6: bool,
    pub routes: &'a [IpNet],
    pub links: &'a [Link],
    /// The service ranges from the API server.
    pub service_cidrs: Vec<IpNet>,
    pub api_servers: BTreeSet<SocketAddr>,
    /// The listening sockets of the node.
    pub listening: Arc<FxHashSet<VirtualAddress>>,
}

/// The input of the desired state besides Services and their endpoints.
///
/// Only the node's desired state depends on [`Self::reachable`] and [`Self::links`], except that
/// [`Self::shadows`] depends on the routes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeContext {
    pub settings: Settings,
    /// The address families of the node's kernel. Services have front ends of these families only.
    pub families: &'static [Family],
    /// The source addresses of the node's own packets to ClusterIPs, at most one per family.
    pub source_ips: Vec<IpAddr>,
    /// Sorted.
    pub node_port_ips: Vec<IpAddr>,
    /// The addresses of the Node object, and the node's source addresses.
    pub node_ips: Vec<IpAddr>,
    /// All known addresses of the node, sorted.
    pub own_ips: Vec<IpAddr>,
    /// TCP addresses of the API server, which no Service may have.
    pub api_servers: BTreeSet<SocketAddr>,
    /// The listening sockets of the node. The unspecified address stands for all addresses of its
    /// family.
    pub listening: Arc<FxHashSet<VirtualAddress>>,
    /// Disjoint.
    pub service_ranges: Vec<IpNet>,
    /// The shadow ranges of the service ranges; disjoint.
    pub shadow_ranges: Vec<IpNet>,
    /// The shadow ranges that have another use, too.
    pub taken_shadows: Vec<IpNet>,
    /// The shadow addresses of each service range.
    pub shadows: Vec<ShadowsOf>,
    pub pod_cidrs: Vec<IpNet>,
    /// The destinations of the node's routes without the default routes; disjoint.
    pub reachable: Vec<IpNet>,
    pub links: Vec<Link>,
    /// The labels of the Node object.
    pub node_labels: Vec<(Name, Name)>,
    /// Schedulers that the kernel has rejected since it was last read.
    pub missing_schedulers: Vec<Scheduler>,
}

impl NodeContext {
    /// Derives the context from the settings and observations.
    #[must_use]
    pub fn new(settings: &Settings, surveyed: Surveyed<'_>) -> Self {
        let Surveyed { node, interfaces, routes, links, service_cidrs, .. } = surveyed;
        let families: &[_] = if surveyed.lacks_ipv6 { &[Family::V4] } else { &Family::BOTH };
        let internal = node.map_or(&[][..], |node| &node.internal_ips);
        let own = internal.iter().chain(interfaces).chain(surveyed.source_ips);
        let own: BTreeSet<_> =
            own.copied().filter(|ip| families.contains(&Family::of(*ip))).collect();
        let of_family =
            |ips: &[IpAddr], family| ips.iter().copied().find(|ip| Family::of(*ip) == family);
        // A Node object without addresses does not determine the addresses of node ports.
        let primary = if internal.is_empty() { surveyed.source_ips } else { internal };
        let primary_ips: Vec<_> =
            families.iter().filter_map(|family| of_family(primary, *family)).collect();
        // The kernel rejects a source address that the node does not have.
        let is_there = |ip: &IpAddr| interfaces.is_empty() || interfaces.contains(ip);
        let source_ip = |family| {
            let internal = of_family(internal, family).filter(is_there);
            let known = internal.or_else(|| of_family(surveyed.source_ips, family));
            known.or_else(|| {
                let is_pods = |ip| node.is_some_and(|node| contain(&node.pod_cidrs, ip));
                let mut ips = interfaces.iter().copied();
                ips.find(|ip| Family::of(*ip) == family && !is_pods(*ip))
            })
        };
        let service_ranges =
            aggregate(service_cidrs.into_iter().chain(settings.service_cidrs.iter().copied()));
        let mut context = Self {
            families,
            taken_shadows: Vec::new(),
            shadows: Vec::new(),
            shadow_ranges: aggregate(service_ranges.iter().flat_map(|range| shadow_ranges(*range))),
            node_port_ips: node_port_ips(settings, &primary_ips, &own),
            own_ips: own.into_iter().collect(),
            node_ips: internal.iter().chain(surveyed.source_ips).copied().collect(),
            source_ips: Family::BOTH.into_iter().filter_map(source_ip).collect(),
            api_servers: surveyed.api_servers,
            listening: surveyed.listening,
            service_ranges,
            pod_cidrs: node.map_or_else(Vec::new, |node| node.pod_cidrs.to_vec()),
            reachable: routes.to_vec(),
            links: links.to_vec(),
            node_labels: node.map_or_else(Vec::new, |node| node.labels.to_vec()),
            missing_schedulers: Vec::new(),
            settings: settings.clone(),
        };
        context.assign_shadows();
        context
    }

    /// Updates the node's routes and links. Returns whether this affects more than the desired
    /// state of the node.
    pub fn follow(&mut self, routes: &[IpNet], links: &[Link]) -> bool {
        self.reachable = routes.to_vec();
        self.links = links.to_vec();
        self.assign_shadows()
    }

    /// Assigns the shadow ranges and returns whether anything changed.
    fn assign_shadows(&mut self) -> bool {
        let overlaps = overlaps(self).into_iter().filter(|overlap| overlap.is_shadow);
        let mut taken: Vec<_> = overlaps.map(|overlap| overlap.range).collect();
        taken.dedup();
        let are_carried = !matches!(self.settings.carry, Carry::FrontEnds);
        let shadows = shadows::assign(&self.service_ranges, &taken, are_carried);
        let has_changed = (&taken, &shadows) != (&self.taken_shadows, &self.shadows);
        self.taken_shadows = taken;
        self.shadows = shadows;
        has_changed
    }

    /// Returns the shadow address of a pool that is not at the ClusterIP, for the ClusterIP's own
    /// policy or the other one. `None` means that other service ranges occupy all of them.
    #[must_use]
    pub fn shadow(&self, cluster_ip: IpAddr, is_own: bool) -> Option<Shadow> {
        match self.shadows.iter().find(|shadows| shadows.range.contains(&cluster_ip)) {
            Some(shadows) if is_own => shadows.own,
            Some(shadows) => shadows.other,
            None => Some(if is_own { Shadow::Second } else { Shadow::First }),
        }
    }

    /// Returns the source address of the node's own packets to ClusterIPs: its first InternalIP, if
    /// an interface has it; or else the kernel's source address for packets to other hosts; or else
    /// any address that is not a pod's.
    #[must_use]
    pub fn source_ip(&self, family: Family) -> Option<IpAddr> {
        self.source_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Returns whether a socket of the node listens on this address, or on all addresses.
    #[must_use]
    pub fn is_listened_at(&self, address: &VirtualAddress) -> bool {
        let anywhere = address.at(address.family().unspecified());
        self.listening.contains(address) || self.listening.contains(&anywhere)
    }

    /// Returns whether the node itself answers at a ClusterIP's port. A device of the node has the
    /// address, and a socket listens on exactly this address; or the address identifies the node,
    /// which is possible if a service range contains nodes.
    #[must_use]
    pub fn is_local_socket(&self, address: &VirtualAddress) -> bool {
        let is_of_socket = || self.listening.contains(address);
        self.is_own(address.ip) && (self.node_ips.contains(&address.ip) || is_of_socket())
    }

    /// Returns the addresses of service ranges on devices of the node, each with the sockets that
    /// listen on it; sorted.
    #[must_use]
    pub fn on_devices(&self) -> Vec<(IpAddr, Vec<VirtualAddress>)> {
        let on_device = |ip: &IpAddr| self.is_in_service_range(*ip).then_some(*ip);
        let with_sockets = |ip| {
            let sockets = self.listening.iter().copied().filter(|socket| socket.ip == ip);
            (ip, sockets.collect::<BTreeSet<_>>().into_iter().collect())
        };
        self.own_ips.iter().filter_map(on_device).map(with_sockets).collect()
    }

    /// Returns the node's addresses that clients may know and that take no node ports; sorted.
    #[must_use]
    pub fn without_node_ports(&self) -> Vec<IpAddr> {
        let is_meant = |ip: &IpAddr| {
            let is_local =
                ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            !is_local && !self.node_port_ips.contains(ip) && !self.is_in_service_range(*ip)
        };
        self.own_ips.iter().copied().filter(is_meant).collect()
    }

    /// Returns whether an address is known to be the node's own.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own_ips.binary_search(&ip).is_ok()
    }

    /// Returns why the node needs a port of its own addresses for itself, if it does. Protected
    /// ports take precedence over sockets.
    #[must_use]
    pub fn need(&self, address: &VirtualAddress) -> Option<RefusalReason> {
        if self.is_protected(address) {
            Some(RefusalReason::Protected)
        } else {
            self.is_listened_at(address).then_some(RefusalReason::Listened)
        }
    }

    /// Returns whether a port is reserved for the node at its own addresses.
    #[must_use]
    pub fn is_protected(&self, address: &VirtualAddress) -> bool {
        self.settings.protected_node_ports.iter().any(|ports| ports.contain(address))
    }

    /// Returns whether an address lies in a service range.
    #[must_use]
    pub fn is_in_service_range(&self, ip: IpAddr) -> bool {
        contain(&self.service_ranges, ip)
    }

    /// Returns whether the Node object has a label, with this value or, for `None`, with any.
    #[must_use]
    pub fn has_label(&self, key: &str, value: Option<&str>) -> bool {
        let is_it = |(name, text): &(Name, Name)| {
            **name == *key && value.is_none_or(|value| **text == *value)
        };
        self.node_labels.iter().any(is_it)
    }

    /// Returns whether an address lies in a shadow range.
    #[must_use]
    pub fn is_in_shadow_range(&self, ip: IpAddr) -> bool {
        contain(&self.shadow_ranges, ip)
    }
}

/// Returns the node's addresses that take node ports. A family without configured ranges has its
/// primary address. Loopback addresses never take node ports.
fn node_port_ips(settings: &Settings, primary: &[IpAddr], own: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let ranges = match &settings.node_port_addresses {
        NodePortAddresses::Primary => &[][..],
        NodePortAddresses::Ranges(ranges) => ranges,
    };
    let is_listed = |family| ranges.iter().any(|range| Family::of(range.addr()) == family);
    let mut ips: Vec<_> = own
        .iter()
        .copied()
        .filter(|ip| contain(ranges, *ip) && !ip.is_loopback())
        .chain(primary.iter().copied().filter(|ip| !is_listed(Family::of(*ip))))
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ports_stand_at_the_configured_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let primary = [ip("192.0.2.1"), ip("2001:db8::1")];
        let own = ["192.0.2.1", "198.51.100.7", "127.0.0.1", "2001:db8::1", "2001:db8::2"]
            .into_iter()
            .map(ip)
            .collect();
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &["192.0.2.1", "2001:db8::1"]),
            (&["198.51.100.0/24"], &["198.51.100.7", "2001:db8::1"]),
            (&["0.0.0.0/0"], &["192.0.2.1", "198.51.100.7", "2001:db8::1"]),
            (&["127.0.0.0/8", "::/0"], &["2001:db8::1", "2001:db8::2"]),
        ];
        for (ranges, expected) in cases {
            let mut settings = Settings::for_node("n1");
            if !ranges.is_empty() {
                let ranges = ranges.iter().map(|range| range.parse().expect("range")).collect();
                settings.node_port_addresses = NodePortAddresses::Ranges(ranges);
            }
            let expected: Vec<_> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(node_port_ips(&settings, &primary, &own), expected, "{ranges:?}");
        }
    }
}
