//! Checks of addresses: those with node ports, those within the ranges of ClusterIPs, and the API server's.

use std::net::IpAddr;

use super::{Finding, Subject};

/// kube-proxy serves node ports at all addresses, unless its configuration or mode says otherwise.
pub(super) fn node_ports(subject: &Subject) -> Finding {
    let listed = |ips: &[IpAddr]| {
        let texts: Vec<_> = ips.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let without = match subject.without_node_ports.as_slice() {
        [] => String::new(),
        ips => format!("; not at {} (nodePortAddresses)", listed(ips)),
    };
    match subject.node_port_ips.as_slice() {
        [] => Finding::ok("at the addresses of the Node object"),
        ips => Finding::ok(format!("at {}{without}", listed(ips))),
    }
}

/// A range that overlaps another network is not guarded, and a ClusterIP of it may be in use there.
pub(super) fn ranges(subject: &Subject) -> Finding {
    match subject.overlaps.as_slice() {
        [] if subject.service_ranges.is_empty() => {
            Finding::ok("not checked: no service range is known here")
        }
        [] => Finding::ok("nothing else is known to lie in them"),
        overlaps => Finding::warn(
            overlaps.join("; "),
            [
                "a ClusterIP that the API server allocates there may be in use elsewhere, and addresses that \
                 no Service has are not dropped: give the cluster a range of its own",
            ],
        ),
    }
}

/// A process of the node keeps a ClusterIP if the node has the address and the process listens at
/// it.
pub(super) fn on_devices(subject: &Subject) -> Finding {
    if subject.on_devices.is_empty() {
        return Finding::ok("none");
    }
    let lines = subject.on_devices.iter().map(|(ip, sockets)| {
        if sockets.is_empty() {
            return format!("{ip}: nothing listens at it, so endpoints answer");
        }
        let sockets: Vec<_> =
            sockets.iter().map(|it| format!("{}/{}", it.port, it.protocol)).collect();
        format!("{ip}: left to what listens at {}", sockets.join(", "))
    });
    Finding::ok(lines.collect::<Vec<_>>().join("; "))
}

/// An API server that is reached through a Service cannot be reached at the start: this program
/// makes Services work.
pub(super) fn api_server(subject: &Subject) -> Finding {
    if subject.api_servers.is_empty() {
        return Finding::ok("not checked: its address is not known here");
    }
    for address in &subject.api_servers {
        if let Some(range) = subject.service_ranges.iter().find(|range| range.contains(address)) {
            return Finding::fail(
                format!("its address {address} lies in the service range {range}"),
                [
                    "services work only once this program has read them from the API server:",
                    "set --master, or `server` in the kubeconfig, to its own address or load balancer",
                ],
            );
        }
    }
    let addresses: Vec<String> = subject.api_servers.iter().map(ToString::to_string).collect();
    let found = addresses.join(", ");
    if subject.service_ranges.is_empty() {
        return Finding::ok(format!("{found} (no service range known)"));
    }
    Finding::ok(format!("{found} is in no service range"))
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::VirtualAddress;

    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn addresses_on_devices_are_named_with_what_listens_there() {
        let sockets: [VirtualAddress; 2] =
            ["10.96.0.10:53/tcp", "10.96.0.10:53/udp"].map(|it| it.parse().expect("address"));
        let dns = (sockets[0].ip, sockets.to_vec());
        let quiet = ("10.96.0.11".parse().expect("address"), Vec::new());
        let found = on_devices(&Subject { on_devices: vec![dns, quiet], ..Subject::default() });
        assert_eq!(
            found.found,
            "10.96.0.10: left to what listens at 53/tcp, 53/udp; 10.96.0.11: nothing listens at it, \
             so endpoints answer"
        );
    }

    #[test]
    fn addresses_without_node_ports_are_named() {
        let ips = |texts: &[&str]| texts.iter().map(|it| it.parse().expect("address")).collect();
        let node_port_ips = ips(&["192.0.2.1"]);
        let subject = Subject { node_port_ips, ..Subject::default() };
        assert_eq!(node_ports(&subject), Finding::ok("at 192.0.2.1"));
        let without_node_ports = ips(&["10.0.0.1", "fd00::1"]);
        let found = node_ports(&Subject { without_node_ports, ..subject });
        let told = "at 192.0.2.1; not at 10.0.0.1, fd00::1 (nodePortAddresses)";
        assert_eq!(found, Finding::ok(told));
    }

    #[test]
    fn overlaps_are_named() {
        assert_eq!(ranges(&Subject::default()).verdict, CheckVerdict::Ok);
        let overlaps = vec!["service range 10.96.0.0/12: 10.100.1.0/24 is pods".to_owned()];
        let found = ranges(&Subject { overlaps, ..Subject::default() });
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert!(found.found.contains("10.100.1.0/24"), "{}", found.found);
    }

    fn judged(server: &str, ranges: &[&str]) -> Finding {
        api_server(&Subject {
            api_servers: vec![server.parse().expect("an address or a range")],
            service_ranges: ranges
                .iter()
                .map(|r| r.parse().expect("an address or a range"))
                .collect(),
            ..Subject::default()
        })
    }

    #[test]
    fn an_address_in_a_range_fails() {
        assert_eq!(
            judged("10.96.0.1", &["10.96.0.0/12", "fd00::/112"]).verdict,
            CheckVerdict::Fail
        );
        assert_eq!(judged("fd00::1", &["10.96.0.0/12", "fd00::/112"]).verdict, CheckVerdict::Fail);
        assert_eq!(judged("192.0.2.1", &["10.96.0.0/12"]).verdict, CheckVerdict::Ok);
        assert_eq!(judged("192.0.2.1", &[]).verdict, CheckVerdict::Ok);
        assert_eq!(api_server(&Subject::default()).verdict, CheckVerdict::Ok);
    }
}
