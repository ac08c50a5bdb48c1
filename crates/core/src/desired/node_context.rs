//! What DesiredState depend on beside Services and their endpoints.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::images::{self, ImagesOf};
use super::overlaps::overlaps;
use super::ranges::{aggregate, contain};
use crate::model::{
    Carry, Family, Link, Node, NodePortAddresses, RefusalReason, Settings, Shadow, VirtualAddress,
    image_ranges,
};

/// What was found of the node and the cluster.
#[derive(Clone, Debug, Default)]
pub struct Surveyed<'a> {
    /// The Node object.
    pub node: Option<&'a Node>,
    /// The addresses of the node's interfaces.
    pub interfaces: &'a [IpAddr],
    /// The address that the node's packets to elsewhere carry, of each family that has one.
    pub source_ips: &'a [IpAddr],
    /// Whether the node's kernel is without IPv6.
    pub lacks_ipv6: bool,
    /// The destinations of the node's routes.
    pub routes: &'a [IpNet],
    /// The node's links.
    pub links: &'a [Link],
    /// Ranges that ClusterIPs come from, by the API server.
    pub service_cidrs: Vec<IpNet>,
    /// Where the API server answers.
    pub api_servers: BTreeSet<SocketAddr>,
    /// Where sockets of the node listen.
    pub listening: Arc<FxHashSet<VirtualAddress>>,
}

/// What DesiredState depend on beside Services and their endpoints. Only the node's depends on
/// [`Self::reachable`] and [`Self::links`], but by [`Self::images`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeContext {
    /// The configuration.
    pub settings: Settings,
    /// The address families of the node's kernel; Services have no front ends of another one.
    pub families: &'static [Family],
    /// The source addresses of the node's own packets to ClusterIPs, at most one of each family.
    pub source_ips: Vec<IpAddr>,
    /// The node's addresses that take node ports, sorted.
    pub node_port_ips: Vec<IpAddr>,
    /// Those of its Node object, and those that it sends from.
    pub node_ips: Vec<IpAddr>,
    /// Every address known to be the node's own, sorted.
    pub own_ips: Vec<IpAddr>,
    /// Where the API server answers, over TCP: no Service may have that.
    pub api_servers: BTreeSet<SocketAddr>,
    /// Where sockets of the node listen. Those at all addresses have the unspecified one.
    pub listening: Arc<FxHashSet<VirtualAddress>>,
    /// Ranges that ClusterIPs come from; disjoint.
    pub service_ranges: Vec<IpNet>,
    /// Those of their images; disjoint.
    pub image_ranges: Vec<IpNet>,
    /// Those of them in which something else lies.
    pub taken_images: Vec<IpNet>,
    /// At which images the pools of each service range stand.
    pub images: Vec<ImagesOf>,
    /// The Node's `podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// The destinations of the node's routes but for the default ones; disjoint.
    pub reachable: Vec<IpNet>,
    /// The node's links.
    pub links: Vec<Link>,
}

impl NodeContext {
    /// Gathers them.
    #[must_use]
    pub fn new(settings: &Settings, ground: Surveyed<'_>) -> Self {
        let Surveyed { node, interfaces, routes, links, service_cidrs, .. } = ground;
        let families: &[_] = if ground.lacks_ipv6 { &[Family::V4] } else { &Family::BOTH };
        let internal = node.map_or(&[][..], |node| &node.internal_ips);
        let own = internal.iter().chain(interfaces).chain(ground.source_ips);
        let own: BTreeSet<_> =
            own.copied().filter(|ip| families.contains(&Family::of(*ip))).collect();
        let of_family =
            |ips: &[IpAddr], family| ips.iter().copied().find(|ip| Family::of(*ip) == family);
        // A Node object without addresses says nothing of where node ports are to be.
        let primary = if internal.is_empty() { ground.source_ips } else { internal };
        let primary_ips: Vec<_> =
            families.iter().filter_map(|family| of_family(primary, *family)).collect();
        // The kernel takes no source address that the node does not have.
        let is_there = |ip: &IpAddr| interfaces.is_empty() || interfaces.contains(ip);
        let source_ip = |family| {
            let internal = of_family(internal, family).filter(is_there);
            let known = internal.or_else(|| of_family(ground.source_ips, family));
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
            taken_images: Vec::new(),
            images: Vec::new(),
            image_ranges: aggregate(service_ranges.iter().flat_map(|range| image_ranges(*range))),
            node_port_ips: node_port_ips(settings, &primary_ips, &own),
            own_ips: own.into_iter().collect(),
            node_ips: internal.iter().chain(ground.source_ips).copied().collect(),
            source_ips: Family::BOTH.into_iter().filter_map(source_ip).collect(),
            api_servers: ground.api_servers,
            listening: ground.listening,
            service_ranges,
            pod_cidrs: node.map_or_else(Vec::new, |node| node.pod_cidrs.to_vec()),
            reachable: routes.to_vec(),
            links: links.to_vec(),
            settings: settings.clone(),
        };
        context.place_images();
        context
    }

    /// Takes in where the node's routes lead and its links. Says whether more than the node's DesiredService
    /// depends on what has changed.
    pub fn follow(&mut self, routes: &[IpNet], links: &[Link]) -> bool {
        self.reachable = routes.to_vec();
        self.links = links.to_vec();
        self.place_images()
    }

    /// Says whether anything is another than before.
    fn place_images(&mut self) -> bool {
        let overlaps = overlaps(self).into_iter().filter(|overlap| overlap.is_of_images);
        let mut taken: Vec<_> = overlaps.map(|overlap| overlap.range).collect();
        taken.dedup();
        let are_carried = !matches!(self.settings.carry, Carry::FrontEnds);
        let images = images::place(&self.service_ranges, &taken, are_carried);
        let has_changed = (&taken, &images) != (&self.taken_images, &self.images);
        self.taken_images = taken;
        self.images = images;
        has_changed
    }

    /// Where a pool stands that is not at the ClusterIP: that of the ClusterIP's own policy, or the
    /// other. `None` if another service range has all places there.
    #[must_use]
    pub fn image(&self, cluster_ip: IpAddr, is_own: bool) -> Option<Shadow> {
        match self.images.iter().find(|images| images.range.contains(&cluster_ip)) {
            Some(images) if is_own => images.own,
            Some(images) => images.other,
            None => Some(if is_own { Shadow::Second } else { Shadow::First }),
        }
    }

    /// The source address of the node's own packets to ClusterIPs: its first InternalIP, if an
    /// interface has it, else the one that the kernel takes to elsewhere, else any that is no pod's.
    #[must_use]
    pub fn source_ip(&self, family: Family) -> Option<IpAddr> {
        self.source_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Whether a socket of the node listens there, or at all of its addresses.
    #[must_use]
    pub fn is_listened_at(&self, address: &VirtualAddress) -> bool {
        let anywhere = address.at(address.family().unspecified());
        self.listening.contains(address) || self.listening.contains(&anywhere)
    }

    /// Whether a ClusterIP's port is answered by the node itself: a device of the node has the address,
    /// and a socket listens at this very one; or others know the node by it, as may be where a service
    /// range holds nodes.
    #[must_use]
    pub fn is_local_socket(&self, address: &VirtualAddress) -> bool {
        let is_of_socket = || self.listening.contains(address);
        self.is_own(address.ip) && (self.node_ips.contains(&address.ip) || is_of_socket())
    }

    /// The addresses of service ranges that devices of the node have, each with where a socket listens
    /// at it; sorted.
    #[must_use]
    pub fn on_devices(&self) -> Vec<(IpAddr, Vec<VirtualAddress>)> {
        let on_device = |ip: &IpAddr| self.is_in_service_range(*ip).then_some(*ip);
        let with_sockets = |ip| {
            let sockets = self.listening.iter().copied().filter(|socket| socket.ip == ip);
            (ip, sockets.collect::<BTreeSet<_>>().into_iter().collect())
        };
        self.own_ips.iter().filter_map(on_device).map(with_sockets).collect()
    }

    /// Whether an address is known to be the node's own.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own_ips.binary_search(&ip).is_ok()
    }

    /// Why the node needs a port of one of its own addresses itself, if it does. What is
    /// listed is so whatever was first.
    #[must_use]
    pub fn need(&self, address: &VirtualAddress) -> Option<RefusalReason> {
        if self.is_protected(address) {
            Some(RefusalReason::Protected)
        } else {
            self.is_listened_at(address).then_some(RefusalReason::Listened)
        }
    }

    /// Whether a port is kept for the node at its own addresses.
    #[must_use]
    pub fn is_protected(&self, address: &VirtualAddress) -> bool {
        self.settings.protected_node_ports.iter().any(|ports| ports.contain(address))
    }

    /// Whether an address lies in a range that ClusterIPs come from.
    #[must_use]
    pub fn is_in_service_range(&self, ip: IpAddr) -> bool {
        contain(&self.service_ranges, ip)
    }

    /// Whether an address lies in the image of such a range.
    #[must_use]
    pub fn is_in_image_range(&self, ip: IpAddr) -> bool {
        contain(&self.image_ranges, ip)
    }
}

/// The node's addresses that take node ports. A family for which nothing is configured has its
/// primary address. Loopback addresses never take them.
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
