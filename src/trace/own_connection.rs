//! A connection that the command opens itself.

use std::io;
use std::net::SocketAddr;

use kube_ipvs_core::model::{Protocol, VirtualAddress};
use socket2::{Domain, Socket, Type};

/// What a datagram contains: the question of DNS for the name servers of the root. The Services that
/// speak UDP are mostly DNS, and others may ignore it.
const QUESTION: [u8; 17] = [0x6b, 0x69, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// A socket of this node's network namespace. The connection ends with it.
#[derive(Debug)]
pub(crate) struct OwnConnection {
    socket: Socket,
    to: VirtualAddress,
}

impl OwnConnection {
    /// Takes a port, and sends nothing yet.
    pub(crate) fn open(to: VirtualAddress) -> io::Result<Self> {
        let kind = if to.protocol == Protocol::Udp { Type::DGRAM } else { Type::STREAM };
        let protocol = i32::from(to.protocol.number()).into();
        let domain = Domain::for_address(SocketAddr::new(to.ip, to.port));
        let socket = Socket::new(domain, kind, Some(protocol))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(to.family().unspecified(), 0).into())?;
        Ok(Self { socket, to })
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok()?.as_socket().map(|it| it.port())
    }

    /// Begins to connect, or sends a datagram. The trace shows what comes of it.
    pub(crate) fn send(&self) {
        let _ = self.socket.connect(&SocketAddr::new(self.to.ip, self.to.port).into());
        if self.to.protocol == Protocol::Udp {
            let _ = self.socket.send(&QUESTION);
        }
    }
}
