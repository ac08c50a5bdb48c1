//! Addresses as they are written.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::{read_ip, read_range};

/// Reads an address that a Service or an endpoint may have.
///
/// # Errors
///
/// Says why it may not.
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

/// Reads a range.
///
/// # Errors
///
/// Says what one looks like.
pub(super) fn range(text: &str) -> Result<IpNet, String> {
    read_range(text).ok_or_else(|| format!("{text:?} is not an address range such as 192.0.2.0/24"))
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
