//! TCP segments as they arrive at a host, and segments that no socket has sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use kube_ipvs_core::model::Family;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::checksum::checksum;
use super::namespace::Namespace;
use super::socket;

const RST: u8 = 1 << 2;
const PSH_ACK: u8 = 1 << 3 | 1 << 4;
/// Without options.
const HEADER_BYTES: usize = 20;
/// So far beyond what was sent last that no window reaches there.
const BEYOND: u32 = 1 << 28;

/// Sees the TCP segments of one family that arrive at a host, whosever they are.
pub(crate) struct Segments {
    namespace: Arc<Namespace>,
    socket: OwnedFd,
    family: Family,
}

/// What one end of a connection would send next, as the other end's last segment tells.
struct End {
    own: SocketAddr,
    /// The other end, as this one knows it.
    other: SocketAddr,
    sequence: u32,
    acknowledged: u32,
}

/// A segment that has arrived.
struct Segment {
    from: SocketAddr,
    to_port: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    payload: u32,
}

impl Segments {
    /// Begins to listen.
    pub(crate) fn listen(namespace: &Arc<Namespace>, family: Family) -> io::Result<Self> {
        let socket = namespace.inside(|| socket::raw_tcp(family, Duration::from_millis(1)))?;
        Ok(Self { namespace: Arc::clone(namespace), socket, family })
    }

    /// Describes the first reset among the segments that have arrived from there at this port.
    ///
    /// Resets of other connections do not count: with two processors a segment may overtake the one
    /// before it, and an acknowledgement that arrives after both ends have closed is answered by one.
    pub(crate) fn reset(&self, from: SocketAddr, to_port: u16) -> Option<String> {
        let is_meant = |it: &Segment| it.from == from && it.to_port == to_port;
        let mut arrived = std::iter::from_fn(|| self.next());
        let reset = arrived.find(|it| it.flags & RST != 0 && is_meant(it))?;
        Some(format!("a reset from {} to port {}", reset.from, reset.to_port))
    }

    /// Sends a segment from `own` to `other` beyond the window of the connection between them. A
    /// segment of that connection must have arrived here.
    pub(crate) fn send_beyond_the_window(
        &self,
        own: SocketAddr,
        other: SocketAddr,
    ) -> io::Result<()> {
        let nothing = || io::Error::other(format!("no segment from {other} has arrived at {own}"));
        let end = self.end(own, other).ok_or_else(nothing)?;
        let mut segment = Vec::with_capacity(HEADER_BYTES + 1);
        segment.extend(end.own.port().to_be_bytes());
        segment.extend(end.other.port().to_be_bytes());
        segment.extend(end.sequence.wrapping_add(BEYOND).to_be_bytes());
        segment.extend(end.acknowledged.to_be_bytes());
        segment.extend([(HEADER_BYTES as u8 / 4) << 4, PSH_ACK]);
        segment.extend(u16::MAX.to_be_bytes());
        segment.extend([0; 4]);
        segment.push(b'x');
        let sum = checksum(&[&pseudo_header(&end, segment.len()), &*segment].concat());
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let to = SocketAddr::new(end.other.ip(), 0);
        match self.namespace.inside(|| sendto(&self.socket, &segment, SendFlags::empty(), &to)) {
            // The sender is told when a filter of its own host drops what it sends.
            Ok(_) | Err(Errno::PERM) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what [`Self::send_beyond_the_window`] sends, a single byte, has arrived at this port.
    pub(crate) fn has_single_byte(&self, to_port: u16) -> bool {
        let mut arrived = std::iter::from_fn(|| self.next());
        arrived.any(|it| it.to_port == to_port && it.payload == 1)
    }

    fn end(&self, own: SocketAddr, other: SocketAddr) -> Option<End> {
        let arrived = std::iter::from_fn(|| self.next());
        let last = arrived.filter(|it| it.to_port == own.port() && it.from == other).last()?;
        Some(End {
            own,
            other,
            sequence: last.acknowledged,
            acknowledged: last.sequence.wrapping_add(last.payload),
        })
    }

    fn next(&self) -> Option<Segment> {
        let mut buffer = vec![0; 65_536];
        let mut receive = || recvfrom(&self.socket, buffer.as_mut_slice(), RecvFlags::empty());
        let (_, length, from) = retry_on_intr(&mut receive).ok()?;
        let from = SocketAddr::try_from(from?).ok()?;
        // IPv4 packets come with their header, IPv6 ones without.
        let header = match self.family {
            Family::V4 => usize::from(buffer.first()? & 0x0f) * 4,
            Family::V6 => 0,
        };
        Segment::read(from.ip(), buffer.get(header..length)?)
    }
}

impl Segment {
    fn read(from: IpAddr, bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
        let u32_at = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let header = usize::from(bytes.get(12)? >> 4) * 4;
        Some(Self {
            from: SocketAddr::new(from, u16_at(0)?),
            to_port: u16_at(2)?,
            sequence: u32_at(4)?,
            acknowledged: u32_at(8)?,
            flags: *bytes.get(13)?,
            payload: u32::try_from(bytes.len().checked_sub(header)?).ok()?,
        })
    }
}

/// What the checksum covers of the IP header.
fn pseudo_header(end: &End, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for ip in [end.own.ip(), end.other.ip()] {
        match ip {
            IpAddr::V4(ip) => header.extend(ip.octets()),
            IpAddr::V6(ip) => header.extend(ip.octets()),
        }
    }
    // Summed up as 16-bit words, the fields of either family are these two.
    header.extend((length as u16).to_be_bytes());
    header.extend([0, 6]);
    header
}
