//! Addresses as they are written.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Reads an address that a Service or an endpoint may have. One that is mapped into IPv6 is the
/// IPv4 address that it stands for.
///
/// # Errors
///
/// Says why it may not.
pub(super) fn usable_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.trim().parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let ip = ip.to_canonical();
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

/// Reads a range, with or without host bits.
pub(super) fn range(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let parsed = text.parse::<IpNet>().map(|range| range.trunc());
    parsed.map_err(|_| format!("{text:?} is not an address range such as 192.0.2.0/24"))
}

/// Reads a port number.
pub(super) fn port(number: i64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{number} is not a port number from 1 to 65535")),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
