//! Ping, and ICMP errors as they arrive.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::VirtualAddress;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, sendto};

use super::checksum::checksum;
use super::client::Silence;
use super::namespace::Namespace;
use super::socket;

/// Sees the ICMP packets that reach a host.
pub(crate) struct IcmpListener {
    socket: OwnedFd,
    ip: IpAddr,
}

impl AsFd for IcmpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl IcmpListener {
    /// Listens in the namespace of the calling thread for packets of the family of `ip`.
    pub(crate) fn open(ip: IpAddr, patience: Duration) -> io::Result<Self> {
        Ok(Self { socket: socket::icmp(ip, patience)?, ip })
    }

    /// Whether one of the packets that have arrived rejects an address.
    pub(crate) fn has_refusal_of(&self, address: VirtualAddress) -> bool {
        while let Some(packet) = self.next() {
            if packet.is_unreachable(self.ip)
                && let Some(original) = packet.original()
                && original.protocol == address.protocol.number()
                && original.destination == address.ip
                && original.payload.get(2..4) == Some(&address.port.to_be_bytes())
            {
                return true;
            }
        }
        false
    }

    fn next(&self) -> Option<Packet> {
        let mut buffer = vec![0; 2048];
        loop {
            match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((_, length)) => {
                    let header = match self.ip {
                        IpAddr::V4(_) => usize::from(buffer[0] & 0x0f) * 4,
                        IpAddr::V6(_) => 0,
                    };
                    return buffer.get(header..length).map(|packet| Packet(packet.to_vec()));
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Sends one echo request. `Ok` is an echo reply.
pub(crate) fn ping(namespace: &Namespace, ip: IpAddr, patience: Duration) -> Result<(), Silence> {
    namespace.inside(|| {
        let listener = IcmpListener::open(ip, patience)?;
        // Connection tracking knows pings by it.
        let identifier = namespace.client_port().to_be_bytes();
        let kind = if ip.is_ipv4() { 8 } else { 128 };
        let mut request = vec![kind, 0, 0, 0, identifier[0], identifier[1], 0, 1];
        request.extend_from_slice(b"kube-ipvs");
        // The kernel fills in the checksum of ICMPv6, which covers the addresses.
        let checksum = checksum(&request).to_be_bytes();
        request[2..4].copy_from_slice(&checksum);
        let to = SocketAddr::new(ip, 0);
        sendto(&listener.socket, &request, SendFlags::empty(), &to).map_err(io::Error::from)?;

        let deadline = Instant::now() + patience;
        while Instant::now() < deadline
            && let Some(packet) = listener.next()
        {
            if packet.is_echo_reply(ip, identifier) {
                return Ok(());
            }
            if packet.is_unreachable(ip)
                && packet.original().is_some_and(|original| original.destination == ip)
            {
                return Err(Silence::Refused);
            }
        }
        Err(Silence::TimedOut)
    })
}

/// An ICMP packet without its IP header.
struct Packet(Vec<u8>);

/// What an ICMP error quotes of the packet that it is about.
struct Original<'a> {
    protocol: u8,
    destination: IpAddr,
    payload: &'a [u8],
}

impl Packet {
    fn is_echo_reply(&self, ip: IpAddr, identifier: [u8; 2]) -> bool {
        let kind = if ip.is_ipv4() { 0 } else { 129 };
        self.0.first() == Some(&kind) && self.0.get(4..6) == Some(&identifier)
    }

    fn is_unreachable(&self, ip: IpAddr) -> bool {
        let kind = if ip.is_ipv4() { 3 } else { 1 };
        self.0.first() == Some(&kind)
    }

    fn original(&self) -> Option<Original<'_>> {
        let packet = self.0.get(8..)?;
        match packet.first()? >> 4 {
            4 => {
                let destination = <[u8; 4]>::try_from(packet.get(16..20)?).ok()?;
                Some(Original {
                    protocol: packet[9],
                    destination: destination.into(),
                    payload: packet.get(usize::from(packet[0] & 0x0f) * 4..)?,
                })
            }
            6 => {
                let destination = <[u8; 16]>::try_from(packet.get(24..40)?).ok()?;
                Some(Original {
                    protocol: packet[6],
                    destination: destination.into(),
                    payload: packet.get(40..)?,
                })
            }
            _ => None,
        }
    }
}
