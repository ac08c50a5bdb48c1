//! Transports of datagrams to the kernel and back: a socket, or a wrapper of a test.

use std::fmt;

use netlink_sys::protocols::{
    NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG,
};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::KernelError;

/// Space for the answers to a batch, even if each is an error.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A subsystem of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subsystem {
    /// Generic netlink: IPVS.
    Generic,
    /// Netfilter: nf_tables, conntrack.
    Netfilter,
    /// Routing: links, addresses, rules, routes.
    Route,
    /// Monitoring of sockets.
    Sockets,
}

impl Subsystem {
    /// Returns a socket with a large receive buffer, and its port.
    pub(super) fn bind(self) -> Result<(RawSocket, u32), KernelError> {
        let number = match self {
            Self::Generic => NETLINK_GENERIC,
            Self::Netfilter => NETLINK_NETFILTER,
            Self::Route => NETLINK_ROUTE,
            Self::Sockets => NETLINK_SOCK_DIAG,
        };
        let mut socket = RawSocket::new(number).map_err(KernelError::socket("socket"))?;
        let address = socket.bind_auto().map_err(KernelError::socket("bind"))?;
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
        Ok((socket, address.port_number()))
    }

    /// The largest send. An nf_tables transaction is one send.
    fn send_buffer(self) -> usize {
        match self {
            Self::Netfilter => 32 << 20,
            Self::Generic | Self::Route | Self::Sockets => 1 << 20,
        }
    }
}

/// Transports datagrams to the kernel and back without waiting.
pub trait Transport: fmt::Debug + Send {
    /// Returns the port, which notifications of changes through this socket contain.
    fn port(&self) -> u32;

    /// Sends requests. The kernel has processed them when this returns.
    ///
    /// # Errors
    ///
    /// The error number of the system call; the kernel has then done nothing.
    fn send(&mut self, requests: &[u8]) -> Result<(), Errno>;

    /// Receives the next datagram. Returns its length, which exceeds the buffer's if the datagram
    /// did not fit.
    ///
    /// # Errors
    ///
    /// `EAGAIN` without a datagram; `ENOBUFS` if the kernel dropped some.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno>;
}

/// A netlink socket of this thread's network namespace.
#[derive(Debug)]
pub struct KernelTransport {
    socket: RawSocket,
    port: u32,
}

impl KernelTransport {
    /// Opens a socket. Larger buffers require CAP_NET_ADMIN. Its absence is ignored, because the
    /// kernel rejects the requests themselves with a better message.
    ///
    /// # Errors
    ///
    /// If the kernel has no netlink of this kind.
    pub fn open(protocol: Subsystem) -> Result<Self, KernelError> {
        let (socket, port) = protocol.bind()?;
        // In generic netlink any process may send to any socket. Once connected to the kernel, this
        // socket receives from the kernel only.
        socket.connect(&SocketAddr::new(0, 0)).map_err(KernelError::socket("connect"))?;
        socket.set_cap_ack(true).map_err(KernelError::socket("setsockopt NETLINK_CAP_ACK"))?;
        socket.set_ext_ack(true).map_err(KernelError::socket("setsockopt NETLINK_EXT_ACK"))?;
        if protocol == Subsystem::Route {
            // With strict checking the kernel filters a dump. Without it (before 4.20) the dump is
            // longer, and the same entries are selected from it.
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, protocol.send_buffer());
        Ok(Self { socket, port })
    }
}

impl Transport for KernelTransport {
    fn port(&self) -> u32 {
        self.port
    }

    fn send(&mut self, requests: &[u8]) -> Result<(), Errno> {
        send(&self.socket, requests, SendFlags::empty()).map(drop)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let (_, length) = recv(&self.socket, buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
        Ok(length)
    }
}
