//! A small cluster: Services with faults, the targets, and other Services of every kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_ipvs_core::model::{Change, Event};

use crate::common::objects::{node, service, service_cidrs, slice, without_service, without_slice};

/// The node, and that there are no Services yet.
pub(super) fn ground() -> Vec<Event> {
    vec![
        Event::Addresses(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
        service_cidrs(&["10.96.0.0/16", "fd00:10:96::/112"]),
        node("n1")
            .internal_ip("192.0.2.1")
            .internal_ip("2001:db8::1")
            .pod_cidr("10.244.1.0/24")
            .into(),
        Event::Service(Change::Replace(Vec::new())),
        Event::Slice(Change::Replace(Vec::new())),
    ]
}

/// The Services without faults.
pub(super) fn others() -> Vec<Event> {
    vec![
        service("a/web").cluster_ip("10.96.0.10").port("http", 80).node_port(30_080).into(),
        slice("a/web-1")
            .port("http", 8080)
            .ready("10.244.1.5", "n1")
            .ready("10.244.2.5", "n2")
            .into(),
        service("a/dns").cluster_ip("10.96.0.11").udp("dns", 53).node_port(30_053).into(),
        slice("a/dns-1").udp("dns", 53).ready("10.244.1.6", "n1").ready("10.244.2.6", "n2").into(),
        service("a/balanced")
            .cluster_ip("10.96.0.12")
            .load_balancer_ip("203.0.113.12")
            .source_range("198.51.100.0/24")
            .local_external()
            .port("http", 80)
            .into(),
        slice("a/balanced-1")
            .port("http", 8080)
            .ready("10.244.1.7", "n1")
            .ready("10.244.2.7", "n2")
            .into(),
        service("a/six").cluster_ip("fd00:10:96::a").port("http", 80).node_port(30_081).into(),
        slice("a/six-1")
            .v6()
            .port("http", 8080)
            .ready("fd00:10:244:1::5", "n1")
            .ready("fd00:10:244:2::5", "n2")
            .into(),
        service("a/sticky")
            .cluster_ip("10.96.0.14")
            .external_ip("203.0.113.14")
            .affinity(600)
            .port("http", 80)
            .into(),
        slice("a/sticky-1").port("http", 8080).ready("10.244.1.8", "n1").into(),
        service("a/nobody").cluster_ip("10.96.0.15").port("http", 80).into(),
    ]
}

/// The greatest number of targets.
pub(super) const TARGETS: u8 = 21;

/// A Service with faults, by its number from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target(pub(super) u8);

impl Target {
    /// Its addresses: the second is a load balancer's, the third IPv6.
    fn addresses(self) -> [IpAddr; 3] {
        let Self(number) = self;
        [
            Ipv4Addr::new(10, 96, 1, number).into(),
            Ipv4Addr::new(203, 0, 114, number).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 1, number.into()).into(),
        ]
    }

    /// Returns its addresses as requests contain them.
    pub(super) fn names(self) -> Vec<Vec<u8>> {
        let bytes = |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        self.addresses().map(bytes).into()
    }

    /// Returns whether a message names it.
    pub(super) fn is_named(self, message: &str) -> bool {
        // Not as the beginning of another address.
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_hexdigit());
        let mut texts = self.addresses().into_iter().map(|ip| ip.to_string());
        texts.any(|text| {
            message.match_indices(&text).any(|(at, _)| ends(&message[at + text.len()..]))
        })
    }
}

/// A change of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It comes, with three endpoints.
    Come,
    /// It goes.
    Go,
    /// It has one endpoint less.
    Shrink,
    /// It has that one again.
    Grow,
    /// It gets affinity.
    Stick,
}

impl Step {
    /// Returns the change that must come before this one.
    pub(super) fn before(self) -> Self {
        match self {
            Self::Come => Self::Go,
            Self::Go | Self::Shrink | Self::Stick => Self::Come,
            Self::Grow => Self::Shrink,
        }
    }

    /// Returns the events of the change.
    pub(super) fn events(self, target: Target) -> Vec<Event> {
        let (key, slice_name) = (format!("v/{}", target.0), format!("v/{}-1", target.0));
        let [ip, balancer, v6] = target.addresses().map(|ip| ip.to_string());
        let service = service(&key)
            .cluster_ip(&ip)
            .cluster_ip(&v6)
            .load_balancer_ip(&balancer)
            .source_range("198.51.100.0/24")
            .local_external()
            .port("http", 80)
            .udp("dns", 53);
        let shrunk = || {
            let of_both = slice(&slice_name).port("http", 8080).udp("dns", 53);
            of_both.ready("10.244.1.66", "n1").ready("10.244.2.66", "n2")
        };
        let grown = || Event::from(shrunk().ready("10.244.1.67", "n1"));
        match self {
            Self::Come => vec![service.into(), grown()],
            Self::Go => vec![without_service(&key), without_slice(&slice_name)],
            Self::Shrink => vec![service.into(), shrunk().into()],
            Self::Grow => vec![grown()],
            Self::Stick => vec![service.affinity(600).into()],
        }
    }
}
