//! What carries datagrams to the kernel and back: a socket, or what a test puts around one.

use std::fmt;

use netlink_sys::protocols::{
    NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG,
};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::KernelError;

/// Room for the answers to a batch, even if each is an error.
pub(super) const RECEIVE_BUFFER: usize = 1 << 20;

/// Which part of the kernel is spoken to.
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
    pub(super) fn number(self) -> isize {
        match self {
            Self::Generic => NETLINK_GENERIC,
            Self::Netfilter => NETLINK_NETFILTER,
            Self::Route => NETLINK_ROUTE,
            Self::Sockets => NETLINK_SOCK_DIAG,
        }
    }

    /// The largest send. A transaction of nf_tables is one send.
    fn send_buffer(self) -> usize {
        match self {
            Self::Netfilter => 32 << 20,
            Self::Generic | Self::Route | Self::Sockets => 1 << 20,
        }
    }
}

/// Carries datagrams to the kernel and back, and never waits.
pub trait Transport: fmt::Debug + Send {
    /// Its port: notifications of changes that were made through it carry that.
    fn port(&self) -> u32;

    /// Sends requests. When this returns, the kernel has worked them off.
    ///
    /// # Errors
    ///
    /// The error number of the system call; the kernel has done nothing then.
    fn send(&mut self, requests: &[u8]) -> Result<(), Errno>;

    /// Receives the next datagram. Returns its length, which is more than the buffer's where it
    /// did not fit.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is none; `ENOBUFS` if the kernel had to drop some.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno>;
}

/// A netlink socket of this thread's network namespace.
pub struct KernelTransport {
    socket: RawSocket,
    port: u32,
}

impl KernelTransport {
    /// Opens a socket. Larger buffers need CAP_NET_ADMIN; without it, the requests themselves
    /// will be refused with a better message than an error here could give.
    ///
    /// # Errors
    ///
    /// If the kernel has no netlink of this kind.
    pub fn open(protocol: Subsystem) -> Result<Self, KernelError> {
        let mut socket =
            RawSocket::new(protocol.number()).map_err(KernelError::socket("socket"))?;
        let port = socket.bind_auto().map_err(KernelError::socket("bind"))?.port_number();
        // In generic netlink every process may send to every socket. Connected to the kernel,
        // this one receives from nobody else.
        socket.connect(&SocketAddr::new(0, 0)).map_err(KernelError::socket("connect"))?;
        socket.set_cap_ack(true).map_err(KernelError::socket("setsockopt NETLINK_CAP_ACK"))?;
        socket.set_ext_ack(true).map_err(KernelError::socket("setsockopt NETLINK_EXT_ACK"))?;
        if protocol == Subsystem::Route {
            // With strict checking the kernel leaves out of a dump what was not asked for.
            // Without it (before 4.20) the dump is longer, and the same is picked from it.
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        let _ = sockopt::set_socket_send_buffer_size_force(&socket, protocol.send_buffer());
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER);
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

impl fmt::Debug for KernelTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelTransport").field("port", &self.port).finish_non_exhaustive()
    }
}
