//! The listening sockets of the node, over sock_diag: those of processes, and the kernel's own, such
//! as the sockets of its tunnels.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};
use netlink_ipvs::{KernelError, Socket, find};
use rustix::io::Errno;

use super::family;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY`: whether an IPv6 socket accepts no IPv4.
const ONLY_V6: u16 = 11;
/// `1 << TCP_LISTEN`; SCTP has the same.
const LISTEN: u32 = 1 << 10;
/// `1 << TCP_CLOSE`: a datagram socket that is not connected.
const UNCONNECTED: u32 = 1 << 7;
/// This file exists if the kernel has SCTP. A request without SCTP would load its module.
const SCTP: &str = "/proc/thread-self/net/sctp";
/// `struct inet_diag_msg`.
const MESSAGE_BYTES: usize = 72;

/// Lists the addresses at which sockets of a network namespace listen, sorted; the unspecified address
/// stands for all addresses of a family. The cost grows with the listening TCP and SCTP sockets and
/// with all UDP sockets.
///
/// # Errors
///
/// If there is no socket for sock_diag, or the kernel rejects a request or does not answer.
pub fn listening(socket: Option<&mut Socket>) -> Result<Vec<VirtualAddress>, KernelError> {
    let Some(socket) = socket else { return Err(unknown("sock_diag", "inet_diag")) };
    let mut found = Vec::new();
    for (protocol, module) in
        [(Protocol::Tcp, "tcp_diag"), (Protocol::Udp, "udp_diag"), (Protocol::Sctp, "sctp_diag")]
    {
        if protocol == Protocol::Sctp && !Path::new(SCTP).exists() {
            continue;
        }
        for family in Family::BOTH {
            let request = request(family, protocol);
            let dumped = socket.dump(
                "listening sockets",
                BY_FAMILY,
                |message| message.raw(&request),
                |found: &mut Vec<_>, _, body| found.extend(decode(body, protocol)),
            );
            match dumped {
                Ok(sockets) => found.extend(sockets.into_iter().flatten()),
                Err(error) if error.errno() == Some(Errno::NOENT) => {
                    return Err(unknown("the monitoring of sockets", module));
                }
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn unknown(subsystem: &'static str, module: &'static str) -> KernelError {
    KernelError::NoModule { subsystem, module }
}

/// `struct inet_diag_req_v2`.
fn request(family: Family, protocol: Protocol) -> [u8; 56] {
    let mut request = [0; 56];
    let states = if protocol == Protocol::Udp { UNCONNECTED } else { LISTEN };
    let head = [[family::number(family), protocol.number(), 0, 0], states.to_ne_bytes()];
    request[..8].copy_from_slice(head.as_flattened());
    request
}

/// Returns the addresses at which a socket listens: an IPv6 socket may serve both families. Returns
/// `None` for a message in an unknown form.
fn decode(body: &[u8], protocol: Protocol) -> Option<impl Iterator<Item = VirtualAddress> + use<>> {
    let (message, rest) = body.split_at_checked(MESSAGE_BYTES)?;
    // Ports and addresses are in network byte order.
    let port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
    let address = message.get(8..)?;
    let ip: IpAddr = match family::of_number(*message.first()?)? {
        Family::V4 => Ipv4Addr::from(*address.first_chunk::<4>()?).into(),
        Family::V6 => Ipv6Addr::from(*address.first_chunk::<16>()?).to_canonical(),
    };
    let only_v6 = find(rest, ONLY_V6).and_then(|it| it.value.first());
    let only_v6 = only_v6.is_some_and(|only| *only != 0);
    let takes_both = ip == Ipv6Addr::UNSPECIFIED && !only_v6;
    let also = takes_both.then_some(Ipv4Addr::UNSPECIFIED.into());
    let at = move |ip| VirtualAddress { ip, port, protocol };
    (port != 0).then(|| [Some(ip), also].into_iter().flatten().map(at))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use netlink_ipvs::Subsystem;
    use proptest::prelude::*;

    use super::*;

    /// The addresses that are read from the message of a listening socket.
    fn told(ip: &str, only_v6: Option<u8>) -> Vec<String> {
        let ip: IpAddr = ip.parse().unwrap();
        let mut body = vec![0; MESSAGE_BYTES];
        body[4..6].copy_from_slice(&80_u16.to_be_bytes());
        match ip {
            IpAddr::V4(ip) => body[8..12].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => body[8..24].copy_from_slice(&ip.octets()),
        }
        body[0] = if ip.is_ipv4() { 2 } else { 10 };
        body.extend(only_v6.into_iter().flat_map(|only| [5, 0, ONLY_V6 as u8, 0, only, 0, 0, 0]));
        decode(&body, Protocol::Tcp).into_iter().flatten().map(|at| at.to_string()).collect()
    }

    #[test]
    fn a_socket_of_ipv6_may_listen_for_both() {
        assert_eq!(told("192.0.2.1", None), ["192.0.2.1:80/tcp"]);
        assert_eq!(told("0.0.0.0", None), ["0.0.0.0:80/tcp"]);
        assert_eq!(told("::", Some(0)), ["[::]:80/tcp", "0.0.0.0:80/tcp"]);
        assert_eq!(told("::", Some(1)), ["[::]:80/tcp"]);
        assert_eq!(told("::ffff:192.0.2.1", Some(0)), ["192.0.2.1:80/tcp"]);
        assert_eq!(told("2001:db8::1", Some(0)), ["[2001:db8::1]:80/tcp"]);
    }

    #[test]
    fn listening_sockets_are_found_and_connected_ones_are_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let found = match listening(Socket::open(Subsystem::Sockets).ok().as_mut()) {
            // On a machine without sock_diag the error says so.
            Err(error) => return assert!(error.to_string().contains("modprobe"), "{error}"),
            Ok(found) => found,
        };
        let at = |address: std::net::SocketAddr, protocol| VirtualAddress {
            ip: address.ip(),
            port: address.port(),
            protocol,
        };
        assert!(found.contains(&at(tcp.local_addr().unwrap(), Protocol::Tcp)), "{found:?}");
        assert!(found.contains(&at(udp.local_addr().unwrap(), Protocol::Udp)), "{found:?}");
        assert!(!found.contains(&at(connected.local_addr().unwrap(), Protocol::Udp)), "{found:?}");
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&body, Protocol::Udp).map(Iterator::count);
        }
    }
}
