//! Clients in the hosts.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Protocol, VirtualAddress};
use rustix::io::Errno;

use super::dns;
use super::host::Host;
use super::icmp::IcmpListener;
use super::namespace::Namespace;
use super::socket::{self, retried};

/// How long a client waits for anything. Emulated machines are slow; nothing that works waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits where no answer is expected.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_millis(300);

/// How many bytes a datagram may have.
pub(crate) const LARGEST_DATAGRAM: usize = 8192;

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// The host that answered.
    pub(crate) server: Host,
    /// The port that it listens on.
    pub(crate) port: u16,
    /// The client, as the server sees it.
    pub(crate) client: SocketAddr,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} sees {}", self.server, self.port, self.client)
    }
}

/// Why there was no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Silence {
    /// The client was rejected at once.
    Refused,
    /// An established connection was ended.
    Reset,
    /// Nothing came back.
    TimedOut,
    /// A filter of the client's own host dropped what it sent, which a process is told.
    Forbidden,
    /// Anything else.
    Other(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::TimedOut => f.write_str("no answer"),
            Self::Forbidden => f.write_str("not permitted to send"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset,
            Kind::TimedOut | Kind::WouldBlock => Self::TimedOut,
            Kind::PermissionDenied => Self::Forbidden,
            // So ends a blocking connect that runs out of SO_SNDTIMEO.
            _ if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Self::TimedOut,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Makes one request over a connection (or datagram socket) of its own.
pub(crate) fn ask(
    namespace: &Namespace,
    to: VirtualAddress,
    patience: Duration,
) -> Result<Reply, Silence> {
    namespace.inside(|| ask_from_port(0, to, patience))
}

/// Makes one request from the namespace of the calling thread and a port of the client's choice;
/// with 0 the kernel picks one.
pub(crate) fn ask_from_port(
    from: u16,
    to: VirtualAddress,
    patience: Duration,
) -> Result<Reply, Silence> {
    match to.protocol {
        Protocol::Tcp => Connection::open_here(from, to, patience)?.ask_last(),
        Protocol::Udp => Flow::open_here(from, to, patience)?.ask(),
        Protocol::Sctp => {
            let icmp = IcmpListener::open(to.ip, Duration::from_millis(1))?;
            let at = SocketAddr::new(to.ip, to.port);
            let is_refused = || icmp.has_refusal_of(to);
            let stream = socket::association(from, at, patience, &icmp, is_refused)?;
            Connection(stream).ask_last()
        }
    }
}

/// Datagrams to one address from one socket.
pub(crate) struct Flow {
    socket: UdpSocket,
    query: Vec<u8>,
}

impl Flow {
    /// Opens the socket on a host, at a port of the client's choice; with 0 the kernel picks one.
    pub(crate) fn open(
        namespace: &Namespace,
        port: u16,
        to: VirtualAddress,
    ) -> Result<Self, Silence> {
        namespace.inside(|| Self::open_here(port, to, PATIENCE))
    }

    fn open_here(from: u16, to: VirtualAddress, patience: Duration) -> Result<Self, Silence> {
        let socket = socket::datagram(from, SocketAddr::new(to.ip, to.port), patience / 2)?;
        // Port 53 is asked as a resolver would.
        let query = if to.port == 53 { dns::query() } else { b"hello".to_vec() };
        Ok(Self { socket, query })
    }

    /// The client's port.
    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends a datagram and waits for nothing.
    pub(crate) fn send(&self) -> io::Result<()> {
        self.socket.send(&self.query).map(drop)
    }

    /// Makes a request.
    pub(crate) fn ask(&self) -> Result<Reply, Silence> {
        self.request(&self.query)
    }

    /// Makes a request of that many bytes, which has an answer of as many.
    pub(crate) fn ask_at_length(&self, bytes: usize) -> Result<Reply, Silence> {
        self.request(&vec![b'x'; bytes])
    }

    fn request(&self, query: &[u8]) -> Result<Reply, Silence> {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        let mut ask = || {
            self.socket.send(query)?;
            retried(|| self.socket.recv(&mut buffer))
        };
        let length = match ask() {
            // A datagram may be lost as its endpoint leaves: asked once more, as resolvers do.
            Err(error) if is_timeout(&error) => ask()?,
            answer => answer?,
        };
        let text = dns::text(&buffer[..length])
            .unwrap_or_else(|| String::from_utf8_lossy(&buffer[..length]).into_owned());
        parse(&text)
    }
}

/// A connection that stays open between requests.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// Connects from a host and a port of the client's choice.
    pub(crate) fn open(
        namespace: &Namespace,
        port: u16,
        to: VirtualAddress,
    ) -> Result<Self, Silence> {
        namespace.inside(|| Self::open_here(port, to, PATIENCE))
    }

    /// Ends it by a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        socket::reset(self.0)
    }

    fn open_here(from: u16, to: VirtualAddress, patience: Duration) -> Result<Self, Silence> {
        let socket = SocketAddr::new(to.ip, to.port);
        Ok(Self(socket::stream(to.protocol, from, socket, patience)?))
    }

    /// The client's end.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Makes a request and leaves the connection open.
    pub(crate) fn ask(&mut self) -> Result<Reply, Silence> {
        self.request("keep-alive")
    }

    /// Makes a request after which the server ends the connection.
    pub(crate) fn ask_last(mut self) -> Result<Reply, Silence> {
        self.request("close")
    }

    /// Makes a request of that many bytes, and some.
    pub(crate) fn ask_at_length(&mut self, bytes: usize) -> Result<Reply, Silence> {
        self.request(&format!("keep-alive\r\nPadding: {:x>bytes$}", ""))
    }

    fn request(&mut self, connection: &str) -> Result<Reply, Silence> {
        let request = format!("GET / HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n");
        self.0.write_all(request.as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        let mut response = Vec::new();
        let mut buffer = [0; 2048];
        // Answers end with the only line feed that no carriage return precedes.
        while !response.ends_with(b"\n") || response.ends_with(b"\r\n") {
            let length = retried(|| self.0.read(&mut buffer))?;
            if length == 0 {
                return Err(Silence::Reset);
            }
            response.extend_from_slice(&buffer[..length]);
            if Instant::now() > deadline {
                return Err(Silence::TimedOut);
            }
        }
        let response = String::from_utf8_lossy(&response);
        parse(response.rsplit("\r\n").next().unwrap_or_default())
    }
}

/// Reads `P1:8080 10.244.1.12:40000`.
fn parse(answer: &str) -> Result<Reply, Silence> {
    let read = || {
        let (server, client) = answer.trim_end().split_once(' ')?;
        let (host, port) = server.split_once(':')?;
        let server = Host::named(host)?;
        Some(Reply { server, port: port.parse().ok()?, client: client.parse().ok()? })
    };
    read().ok_or_else(|| Silence::Other(format!("an answer of nobody in the lab: {answer:?}")))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
