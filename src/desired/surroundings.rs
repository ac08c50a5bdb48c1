//! What Programs depend on beside Services and their endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ranges::{aggregate, contain};
use crate::model::{Family, Link, Node, NodePortAddresses, Settings, image_ranges};

/// What Programs depend on beside Services and their endpoints. Only the node's depends on
/// [`Self::reachable`] and [`Self::links`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// The configuration.
    pub settings: Settings,
    /// The node's first InternalIP of each family.
    pub primary_ips: Vec<IpAddr>,
    /// The node's addresses that take node ports, sorted.
    pub node_port_ips: Vec<IpAddr>,
    /// Every address known to be the node's own, sorted.
    pub own_ips: Vec<IpAddr>,
    /// The Node's InternalIPs: no Service may have one.
    pub internal_ips: Vec<IpAddr>,
    /// Where the API server answers: no Service may have one.
    pub api_server: BTreeSet<IpAddr>,
    /// Ranges that ClusterIPs come from; disjoint.
    pub service_ranges: Vec<IpNet>,
    /// Those of their images; disjoint.
    pub image_ranges: Vec<IpNet>,
    /// The Node's `podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// The destinations of the node's routes but for the default ones; disjoint.
    pub reachable: Vec<IpNet>,
    /// The node's links.
    pub links: Vec<Link>,
}

impl Surroundings {
    /// Gathers them. `interfaces` are the addresses found on the node's interfaces, `routes` the
    /// destinations of its routes.
    pub fn new(
        settings: &Settings,
        node: Option<&Node>,
        interfaces: &[IpAddr],
        routes: &[IpNet],
        links: &[Link],
        service_cidrs: impl IntoIterator<Item = IpNet>,
        api_server: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let internal = node.map_or(&[][..], |node| &node.internal_ips);
        let own: BTreeSet<_> = internal.iter().chain(interfaces).copied().collect();
        let primary_ips: Vec<_> = Family::BOTH
            .into_iter()
            .filter_map(|family| node.and_then(|node| node.primary_ip(family)))
            .collect();
        let service_ranges =
            aggregate(service_cidrs.into_iter().chain(settings.service_cidrs.iter().copied()));
        Self {
            image_ranges: aggregate(service_ranges.iter().flat_map(|range| image_ranges(*range))),
            node_port_ips: node_port_ips(settings, &primary_ips, &own),
            own_ips: own.into_iter().collect(),
            primary_ips,
            internal_ips: internal.to_vec(),
            api_server: api_server.into_iter().collect(),
            service_ranges,
            pod_cidrs: node.map_or_else(Vec::new, |node| node.pod_cidrs.to_vec()),
            reachable: routes.to_vec(),
            links: links.to_vec(),
            settings: settings.clone(),
        }
    }

    /// The node's first InternalIP of a family.
    #[must_use]
    pub fn primary_ip(&self, family: Family) -> Option<IpAddr> {
        self.primary_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Whether an address is known to be the node's own.
    #[must_use]
    pub fn is_own(&self, ip: IpAddr) -> bool {
        self.own_ips.binary_search(&ip).is_ok()
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
