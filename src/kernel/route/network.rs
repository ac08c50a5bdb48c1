//! The node's own addresses, the destinations of its routes, its links, and notifications of their
//! changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube_ipvs_core::canary::CANARY_DEVICE;
use kube_ipvs_core::model::{DEVICE, Family, Link, ROUTE_PROTOCOL};
use netlink_ipvs::{Header, KernelError, Listener, Socket, Subsystem};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use socket2::SockFilter;

use super::message::{self, TABLE_LOCAL};
use super::notification::{DELADDR, DELLINK, DELROUTE, NEWADDR, NEWLINK, NEWROUTE, is_about_ours};
use super::{absent_is_empty, ask, decode, device, dump, earlier};

/// Devices with addresses and routes of Services: kube-proxy's, that of earlier versions, and the
/// canary's.
const SERVICE_DEVICES: [&str; 3] = [DEVICE, earlier::DEVICE, CANARY_DEVICE];
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`, `_NEXTHOP`. IPv4
/// sends no notification of routes that go with a device, an address or a next hop (`fib_flush`).
const GROUPS: [u32; 6] = [1, 5, 7, 9, 11, 32];

/// A distant address of each family (192.88.99.0/24, RFC 7526, and 2001::/32). No packet is sent
/// there.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 88, 99, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 1)),
];

/// The consequence of a kernel without IPv6.
pub const WITHOUT_IPV6: &str = "the kernel is without IPv6 (ipv6.disable=1 on its command line): no IPv6 address of a Service is served";

/// Returns whether the kernel has IPv6. A seccomp filter may reject the socket nevertheless.
#[must_use]
pub fn has_ipv6() -> bool {
    let socket = socket(AddressFamily::INET6, SocketType::DGRAM, None);
    !matches!(socket, Err(Errno::AFNOSUPPORT)) || Path::new("/proc/self/net/if_inet6").exists()
}

/// Lists the addresses, routes and links of a network namespace.
#[derive(Debug)]
pub struct Network {
    socket: Socket,
}

impl Network {
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self::over(Socket::open(Subsystem::Route)?))
    }

    #[must_use]
    pub fn over(socket: Socket) -> Self {
        Self { socket }
    }

    /// Lists the addresses that clients can use, sorted and without duplicates.
    ///
    /// Loopback and IPv6 link-local addresses are left out, addresses on devices with Service
    /// addresses, and addresses that are tentative or failed duplicate detection.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, KernelError> {
        let request = message::dump_all_addresses();
        let mut found =
            dump(&mut self.socket, "addresses", &request, |found: &mut Vec<_>, body| {
                found.extend(decode::address(body).filter(|it| it.usable && is_public(it.ip)));
            })?;
        let hidden = self.service_devices()?;
        found.retain(|it| !hidden.contains(&it.device));
        let mut ips: Vec<_> = found.into_iter().map(|it| it.ip).collect();
        ips.sort_unstable();
        ips.dedup();
        Ok(ips)
    }

    /// Lists the destinations of routes in all tables, as disjoint ranges, sorted.
    ///
    /// Default, local and multicast routes are left out, table `local`, our routes, routes on
    /// devices with Service addresses, and loopback, link-local and multicast destinations. Routes
    /// that reject packets (`blackhole`, `unreachable`, `prohibit`, `throw`) are included.
    pub fn routes(&mut self) -> Result<Vec<IpNet>, KernelError> {
        let mut found = Vec::new();
        for family in Family::BOTH {
            let request = message::dump_all_routes(family);
            let routes = dump(&mut self.socket, "routes", &request, |found: &mut Vec<_>, body| {
                found.extend(decode::destination(body));
            });
            found.append(&mut absent_is_empty(routes)?);
        }
        let hidden = self.service_devices()?;
        found.retain(|(device, _)| device.is_none_or(|device| !hidden.contains(&device)));
        Ok(disjoint(found.into_iter().map(|(_, range)| range)))
    }

    /// Returns the source address of the node's packets to distant addresses, of each family with a
    /// route there.
    pub fn source_ips(&mut self) -> Result<Vec<IpAddr>, KernelError> {
        let mut found = Vec::new();
        for to in FAR {
            let request = message::get_route(to);
            let take = |body: &[u8]| found.extend(decode::preferred_source(body));
            match ask(&mut self.socket, "route", &request, take) {
                // There is no way there.
                Ok(()) | Err(KernelError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.retain(|ip| is_public(*ip));
        Ok(found)
    }

    /// Lists all links except those with Service addresses, sorted.
    pub fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let request = message::dump_links();
        let mut found =
            dump(&mut self.socket, "links", &request, |found: &mut Vec<_>, body| {
                let link = decode::link(body);
                let link = link.filter(|link| !SERVICE_DEVICES.contains(&link.name.as_str()));
                found.extend(link.and_then(|link| {
                    Some(Link { name: link.name.parse().ok()?, index: link.index })
                }));
            })?;
        found.sort_unstable();
        Ok(found)
    }

    /// The devices are read after their addresses and routes, so that a device that has just
    /// appeared is not missed.
    fn service_devices(&mut self) -> Result<Vec<u32>, KernelError> {
        let mut found = Vec::new();
        for name in SERVICE_DEVICES {
            found.extend(device(&mut self.socket, name)?.map(|link| link.index));
        }
        Ok(found)
    }
}

/// Merges the ranges that may contain a Service address.
fn disjoint(ranges: impl Iterator<Item = IpNet>) -> Vec<IpNet> {
    let aside: [IpNet; 6] = [
        Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into(),
        Ipv4Net::new_assert([169, 254, 0, 0].into(), 16).into(),
        Ipv4Net::new_assert([224, 0, 0, 0].into(), 4).into(),
        Ipv6Net::new_assert([0, 0, 0, 0, 0, 0, 0, 1].into(), 128).into(),
        Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 10).into(),
        Ipv6Net::new_assert([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8).into(),
    ];
    let ranges: Vec<_> =
        ranges.filter(|range| !aside.iter().any(|other| other.contains(range))).collect();
    let mut disjoint = IpNet::aggregate(&ranges);
    disjoint.sort_unstable();
    disjoint
}

fn is_public(ip: IpAddr) -> bool {
    !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Touched {
    pub addresses: bool,
    pub routes: bool,
    pub links: bool,
}

/// Receives notifications of changes to addresses, routes and links, in the network namespace of the
/// calling thread.
///
/// # Errors
///
/// If the kernel has no route netlink.
pub fn listen() -> Result<Listener, KernelError> {
    Listener::open(Subsystem::Route, &GROUPS, &not_local_nor_ours())
}

/// Waits until lists may have changed, or for `limit`.
pub fn wait(listener: &mut Listener, limit: Option<Duration>) -> Touched {
    Listener::wait(std::slice::from_ref(listener), limit);
    let mut touched = Touched::default();
    let incomplete = listener.read(|header, payload| {
        if !is_about_ours(header, payload) {
            touched.addresses |= matches!(header.kind, NEWADDR | DELADDR);
            touched.routes |= touches_routes(header, payload);
            touched.links |= matches!(header.kind, NEWLINK | DELLINK);
        }
    });
    if incomplete { Touched { addresses: true, routes: true, links: true } } else { touched }
}

/// Returns whether routes may have changed: with a device that is down or gone, an address or a
/// next hop, or by themselves.
fn touches_routes(header: Header, payload: &[u8]) -> bool {
    header.kind != NEWLINK || decode::link(payload).is_none_or(|link| !link.up)
}

/// Accepts messages other than routes, and routes that are neither in table `local` nor ours:
/// thousands of those may come and go at once, and none matters. A load from a packet is in network
/// byte order; `struct rtmsg` follows the netlink header.
fn not_local_nor_ours() -> [SockFilter; 9] {
    const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let payload = Header::LENGTH as u32;
    [
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(JUMP_EQUAL, 1, 0, NEWROUTE.to_be().into()),
        SockFilter::new(JUMP_EQUAL, 0, 4, DELROUTE.to_be().into()),
        SockFilter::new(LOAD_BYTE, 0, 0, payload + 4),
        SockFilter::new(JUMP_EQUAL, 3, 0, TABLE_LOCAL),
        SockFilter::new(LOAD_BYTE, 0, 0, payload + 5),
        SockFilter::new(JUMP_EQUAL, 1, 0, ROUTE_PROTOCOL.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_can_be_asked() {
        let mut network = Network::open().unwrap();
        let addresses = network.addresses().unwrap();
        let sources = network.source_ips().unwrap();
        assert!(sources.iter().all(|ip| addresses.contains(ip)), "{sources:?} in {addresses:?}");
        network.routes().unwrap();
    }

    #[test]
    fn destinations_are_joined_and_those_of_no_service_left_out() {
        let cases: [(&[&str], &[&str]); 6] = [
            (&[], &[]),
            (
                &["fd00:1::/64", "10.244.3.0/24", "10.244.2.0/24", "10.244.2.9/32", "192.0.2.0/24"],
                &["10.244.2.0/23", "192.0.2.0/24", "fd00:1::/64"],
            ),
            (&["fe80::/64", "fe80::1/128", "ff02::/16", "::1/128", "2000::/3"], &["2000::/3"]),
            (&["127.0.0.0/8", "169.254.1.1/32", "224.0.0.0/4", "10.0.0.0/8"], &["10.0.0.0/8"]),
            // The two halves that stand for a default route of their own.
            (&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"], &["0.0.0.0/0", "::/0"]),
            (
                &["255.255.255.255/32", "ffff::/16", "10.0.0.1/32"],
                &["10.0.0.1/32", "255.255.255.255/32"],
            ),
        ];
        for (ranges, expected) in cases {
            let nets = |texts: &[&str]| -> Vec<IpNet> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            assert_eq!(disjoint(nets(ranges).into_iter()), nets(expected), "{ranges:?}");
        }
    }

    #[test]
    fn addresses_that_no_client_can_use_are_left_out() {
        let is_public = |text: &str| is_public(text.parse().unwrap());
        assert!(["192.0.2.1", "169.254.1.1", "fd00::1"].into_iter().all(is_public));
        assert!(!["127.0.0.1", "::1", "fe80::1"].into_iter().any(is_public));
    }
}
