//! The clients' traffic, and the servers in a pod.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Protocol;

use crate::namespace::{Lab, Place};
use crate::{Result, median};

/// The servers of the pod, each behind its own Service.
#[derive(Clone, Copy)]
pub(super) enum Served {
    /// Sends a byte to each client.
    Greeting,
    /// Echoes each byte.
    Echo,
    /// Answers each datagram.
    Datagrams,
}

impl Served {
    pub(super) const ALL: [Self; 3] = [Self::Greeting, Self::Echo, Self::Datagrams];

    /// Returns the number of the Service.
    pub(super) fn service(self) -> u32 {
        self as u32
    }

    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Greeting | Self::Echo => Protocol::Tcp,
            Self::Datagrams => Protocol::Udp,
        }
    }

    /// Returns the pod's address for the Service.
    pub(super) fn endpoint(self) -> SocketAddr {
        (Place::Pod.address(), 8080 + self as u16).into()
    }

    /// Returns the pod's address for direct clients. At a Service's endpoint, IPVS takes the
    /// answers to direct clients for those of the Service if the client has used the port for it
    /// before; only the agent's tables prevent this.
    pub(super) fn apart(self) -> SocketAddr {
        (Place::Pod.address(), 9080 + self as u16).into()
    }

    /// Starts the server in the pod; each address serves one client after the other.
    pub(super) fn start(self, lab: &Lab) -> Result<()> {
        [self.endpoint(), self.apart()].into_iter().try_for_each(|at| self.start_at(lab, at))
    }

    fn start_at(self, lab: &Lab, at: SocketAddr) -> Result<()> {
        let (ready, is_ready) = mpsc::channel();
        lab.at(Place::Pod, move || {
            thread::spawn(move || -> Result<()> {
                match self {
                    Self::Datagrams => {
                        let socket = UdpSocket::bind(at)?;
                        ready.send(())?;
                        loop {
                            let (_, client) = socket.recv_from(&mut [0])?;
                            socket.send_to(b"!", client)?;
                        }
                    }
                    Self::Greeting | Self::Echo => {
                        let listener = TcpListener::bind(at)?;
                        ready.send(())?;
                        listener.incoming().try_for_each(|client| self.answer(client?))
                    }
                }
            });
            Ok(is_ready.recv()?)
        })
    }

    fn answer(self, mut client: TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        if matches!(self, Self::Greeting) {
            return Ok(client.write_all(b"!")?);
        }
        let mut byte = [0];
        while client.read(&mut byte)? > 0 {
            client.write_all(&byte)?;
        }
        Ok(())
    }
}

/// A client's repeated exchange.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exchange {
    /// A whole connection.
    Connection,
    /// A byte and its echo over an established connection.
    RoundTrip,
    /// A datagram and its answer, each from a new port.
    UdpFlow,
    /// The same from one port.
    UdpRoundTrip,
}

impl Exchange {
    pub(super) const ALL: [Self; 4] =
        [Self::Connection, Self::RoundTrip, Self::UdpFlow, Self::UdpRoundTrip];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::RoundTrip => "round_trip",
            Self::UdpFlow => "udp_flow",
            Self::UdpRoundTrip => "udp_round_trip",
        }
    }

    /// Returns the server of the exchange.
    pub(super) fn with(self) -> Served {
        match self {
            Self::Connection => Served::Greeting,
            Self::RoundTrip => Served::Echo,
            Self::UdpFlow | Self::UdpRoundTrip => Served::Datagrams,
        }
    }

    /// Measures the time of one exchange in microseconds: the median of many, because the kernel's
    /// clock and timers run in some of them. `settles` is whether established connections get
    /// faster.
    pub(super) fn measure(self, to: SocketAddr, settles: bool) -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..CLIENTS {
            match self {
                Self::Connection => {
                    repeat(&mut times, || Ok(TcpStream::connect(to)?.read_exact(&mut [0])?))
                }
                Self::RoundTrip => {
                    let mut server = TcpStream::connect(to)?;
                    server.set_nodelay(true)?;
                    server.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                    let mut exchange = || {
                        server.write_all(b"?")?;
                        Ok(server.read_exact(&mut [0])?)
                    };
                    if settles {
                        settle(&mut exchange)?;
                    }
                    repeat(&mut times, exchange)
                }
                Self::UdpFlow => repeat(&mut times, || ask(&connected(to)?)),
                Self::UdpRoundTrip => {
                    let socket = connected(to)?;
                    if settles {
                        ask(&socket)?;
                        thread::sleep(LASTING);
                        settle(&mut || ask(&socket))?;
                    }
                    repeat(&mut times, || ask(&socket))
                }
            }?;
        }
        median(times)
    }
}

/// The timeout of an answer; without one the measurement fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

fn connected(to: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.connect(to)?;
    Ok(socket)
}

fn ask(server: &UdpSocket) -> Result<()> {
    server.send(b"?")?;
    server.recv(&mut [0])?;
    Ok(())
}

/// Clients per measurement: the place of a connection in the kernel's tables is random.
const CLIENTS: usize = 15;
/// Exchanges per client.
const EXCHANGES: usize = 20;

/// The age at which connection tracking considers a UDP flow established.
const LASTING: Duration = Duration::from_millis(2_100);
/// Exchanges until the flowtable has the connection: one in thirty-two hands it over.
const SETTLING: usize = 250;

fn settle(exchange: &mut impl FnMut() -> Result<()>) -> Result<()> {
    (0..SETTLING).try_for_each(|_| exchange())
}

fn repeat(times: &mut Vec<f64>, mut exchange: impl FnMut() -> Result<()>) -> Result<()> {
    let mut last = Instant::now();
    for _ in 0..EXCHANGES {
        exchange()?;
        let now = Instant::now();
        times.push((now - last).as_secs_f64() * 1e6);
        last = now;
    }
    Ok(())
}
