//! Health checks of load balancer Services with external traffic policy Local.

use std::net::IpAddr;

use super::NodeContext;
use super::options::Options;
use crate::model::{
    Endpoints, Family, FrontendKind, HealthCheck, Locality, NodePortAddresses, TrafficPolicy,
};

/// Returns the answer of a Service's health check. Endpoints count as in kube-proxy's
/// `LocalReadyEndpoints` (`pkg/proxy/endpointsmap.go`): terminating endpoints may still serve but
/// do not count.
pub(super) fn health_check(
    options: &Options<'_>,
    endpoints: &mut Endpoints,
    locality: &Locality,
) -> Option<HealthCheck> {
    let service = options.service;
    let port = service.health_check_node_port?;
    let is_checked =
        service.external_policy == TrafficPolicy::Local && service.is_externally_accessible();
    is_checked.then(|| {
        // Load balancers send to node ports or to their own addresses. A node that serves neither must
        // get no traffic for the Service.
        let kinds = [FrontendKind::LoadBalancer, FrontendKind::NodePort];
        if !kinds.into_iter().any(|kind| options.serves(kind)) {
            return HealthCheck { port, local_endpoints: [0, 0] };
        }
        let [v4, v6] = Family::BOTH.map(|family| {
            service.cluster_ip(family)?;
            Some(endpoints.of(family).ready_addresses_here(locality))
        });
        HealthCheck { port, local_endpoints: [v4.or(v6), v6.or(v4)].map(Option::unwrap_or_default) }
    })
}

/// Returns the addresses that answer health checks: those that take node ports. If they are all
/// addresses of a family, the result is the unspecified address, so that a change of the node's
/// addresses binds no new socket.
#[must_use]
pub fn health_check_addresses(context: &NodeContext) -> Vec<IpAddr> {
    let is_whole = |family| match &context.settings.node_port_addresses {
        NodePortAddresses::Primary => false,
        NodePortAddresses::Ranges(ranges) => {
            ranges.iter().any(|range| range.prefix_len() == 0 && Family::of(range.addr()) == family)
        }
    };
    let single = context.node_port_ips.iter().copied().filter(|ip| !is_whole(Family::of(*ip)));
    let families = context.families.iter().copied();
    let whole = families.filter(|family| is_whole(*family)).map(Family::unspecified);
    whole.chain(single).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Surveyed;
    use super::*;
    use crate::model::{Node, Settings};

    #[test]
    fn checks_are_answered_where_node_ports_are() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("address");
        let node = Node {
            name: "n1".into(),
            internal_ips: [ip("192.0.2.1"), ip("2001:db8::1")].into(),
            pod_cidrs: [].into(),
            zone: None,
            labels: [].into(),
            eligible: true,
        };
        let surveyed = Surveyed { interfaces: &[ip("198.51.100.7")], ..Surveyed::default() };
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &["192.0.2.1", "2001:db8::1"]),
            (&["198.51.100.0/24"], &["198.51.100.7", "2001:db8::1"]),
            (&["0.0.0.0/0"], &["0.0.0.0", "2001:db8::1"]),
            (&["0.0.0.0/0", "::/0"], &["0.0.0.0", "::"]),
        ];
        for (ranges, expected) in cases {
            let mut settings = Settings::for_node("n1");
            if !ranges.is_empty() {
                let ranges = ranges.iter().map(|range| range.parse().expect("range")).collect();
                settings.node_port_addresses = NodePortAddresses::Ranges(ranges);
            }
            let context =
                NodeContext::new(&settings, Surveyed { node: Some(&node), ..surveyed.clone() });
            let expected: Vec<_> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(health_check_addresses(&context), expected, "{ranges:?}");
        }
    }
}
