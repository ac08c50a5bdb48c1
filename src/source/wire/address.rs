//! Validation of addresses, ranges, ports and protocols.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kube_ipvs_core::model::{Protocol, read_ip, read_range};

/// Parses the address of a Service or an endpoint. The error is the reason why it is invalid.
pub(super) fn usable_ip(text: &str) -> Result<IpAddr, String> {
    let ip = read_ip(text).ok_or_else(|| format!("{text:?} is not an IP address"))?;
    let what = if ip.is_unspecified() {
        "unspecified"
    } else if ip.is_loopback() {
        "loopback"
    } else if ip.is_multicast() {
        "multicast"
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        "broadcast"
    } else if is_link_local(ip) {
        "link-local"
    } else {
        return Ok(ip);
    };
    Err(format!("{ip} is a {what} address, which cannot be balanced"))
}

/// Addresses at which clouds serve metadata and credentials to a node's processes and pods, besides
/// link-local addresses: Azure, Oracle, Alibaba and AWS.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Parses an external address of a Service. An endpoint may have an address in [`METADATA`]: those
/// of Alibaba and AWS lie in ranges that pods may use.
pub(super) fn external_ip(text: &str) -> Result<IpAddr, String> {
    match usable_ip(text)? {
        ip if METADATA.contains(&ip) => Err(format!(
            "{ip} is an address at which a cloud answers for metadata, which cannot be balanced"
        )),
        ip => Ok(ip),
    }
}

pub(super) fn range(text: &str) -> Result<IpNet, String> {
    read_range(text).ok_or_else(|| format!("{text:?} is not an address range such as 192.0.2.0/24"))
}

pub(super) fn port(number: i64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{number} is not a port number from 1 to 65535")),
    }
}

/// Parses a protocol; the default is TCP.
pub(super) fn protocol(name: &str) -> Result<Protocol, String> {
    match name {
        "" | "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(format!("{other:?} is neither TCP nor UDP nor SCTP: ignored")),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_may_be_an_endpoint_but_not_a_front_end() {
        for text in ["168.63.129.16", "192.0.0.192", "100.100.100.200", "fd00:ec2::254"] {
            assert!(usable_ip(text).is_ok(), "{text}");
            assert!(external_ip(text).is_err(), "{text}");
        }
        for text in ["169.254.169.254", "fe80::a9fe:a9fe", "::ffff:169.254.169.254"] {
            assert!(usable_ip(text).is_err(), "{text}");
            assert!(external_ip(text).is_err(), "{text}");
        }
        assert!(external_ip("100.100.100.201").is_ok());
    }
}
