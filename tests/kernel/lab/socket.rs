//! Sockets of all three protocols: SCTP's one-to-one style behaves like TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Family, Protocol};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, retry_on_intr};
use rustix::net::sockopt::{
    Timeout, set_socket_linger, set_socket_reuseaddr, set_socket_timeout, socket_error,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, listen};

/// Repeats a call that a signal has interrupted. The kernel restarts such calls, except on sockets that
/// have a timeout.
pub(crate) fn retried<T>(mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn socket(protocol: Protocol, ip: IpAddr) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?)
}

/// A socket that takes TCP connections or SCTP associations.
pub(crate) fn stream_listener(protocol: Protocol, at: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(protocol, at.ip())?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at)?;
    listen(&socket, 128)?;
    Ok(socket.into())
}

/// A TCP connection or SCTP association; `patience` bounds connecting and each read and write.
///
/// `from` is the client's own port; with 0 the kernel picks one.
pub(crate) fn stream(
    protocol: Protocol,
    from: u16,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    Ok(connected(protocol, from, to, patience)?.into())
}

/// An SCTP association, as [`stream`] makes it. The call also ends when `is_refused`, which reads from
/// `icmp`, says so: an SCTP socket does not report ICMP errors and keeps trying.
pub(crate) fn association(
    from: u16,
    to: SocketAddr,
    patience: Duration,
    icmp: impl AsFd,
    mut is_refused: impl FnMut() -> bool,
) -> io::Result<TcpStream> {
    let socket = bound(Protocol::Sctp, from, to, patience)?;
    ioctl_fionbio(&socket, true)?;
    if let Err(error) = connect(&socket, &to)
        && error != Errno::INPROGRESS
    {
        return Err(error.into());
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut both = [
            PollFd::new(&socket, PollFlags::OUT),
            PollFd::from_borrowed_fd(icmp.as_fd(), PollFlags::IN),
        ];
        let left = Timespec::try_from(left).expect("a short time");
        if retry_on_intr(|| poll(&mut both, Some(&left)))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !both[0].revents().is_empty() {
            socket_error(&socket)??;
            ioctl_fionbio(&socket, false)?;
            return Ok(socket.into());
        }
        if is_refused() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
    }
}

/// Ends a TCP connection by a reset.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// A UDP socket with a peer, which is told of refusals. `from` as for [`stream`].
pub(crate) fn datagram(from: u16, to: SocketAddr, patience: Duration) -> io::Result<UdpSocket> {
    Ok(connected(Protocol::Udp, from, to, patience)?.into())
}

fn connected(
    protocol: Protocol,
    from: u16,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<OwnedFd> {
    let socket = bound(protocol, from, to, patience)?;
    // After a signal, a second call waits for the same connection.
    retry_on_intr(|| connect(&socket, &to))?;
    Ok(socket)
}

/// A socket to connect with.
fn bound(protocol: Protocol, from: u16, to: SocketAddr, patience: Duration) -> io::Result<OwnedFd> {
    let socket = socket(protocol, to.ip())?;
    if from != 0 {
        let any: IpAddr = match to.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // One port may have connections to several addresses.
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddr::new(any, from))?;
    }
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    Ok(socket)
}

/// A raw TCP socket. Segments come as [`icmp`] has it.
pub(crate) fn raw_tcp(family: Family, patience: Duration) -> io::Result<OwnedFd> {
    let family = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    raw(family, ipproto::TCP, patience)
}

/// A raw ICMP socket. IPv4 packets come with their header, IPv6 ones without.
pub(crate) fn icmp(to: IpAddr, patience: Duration) -> io::Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    raw(family, protocol, patience)
}

fn raw(
    family: AddressFamily,
    protocol: rustix::net::Protocol,
    patience: Duration,
) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    Ok(socket)
}
