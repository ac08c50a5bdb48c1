//! What clients do, and who answers them in a pod.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Protocol;

use crate::namespace::{Lab, Place};
use crate::{Result, median};

/// What the pod serves, each behind a Service of its own.
#[derive(Clone, Copy)]
pub(super) enum Served {
    /// A byte, said to whoever connects.
    Greeting,
    /// Each byte that the client says.
    Echo,
    /// Each datagram.
    Datagrams,
}

impl Served {
    pub(super) const ALL: [Self; 3] = [Self::Greeting, Self::Echo, Self::Datagrams];

    /// The number of its Service.
    pub(super) fn service(self) -> u32 {
        self as u32
    }

    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Greeting | Self::Echo => Protocol::Tcp,
            Self::Datagrams => Protocol::Udp,
        }
    }

    /// Where the pod serves it for the Service.
    pub(super) fn endpoint(self) -> SocketAddr {
        (Place::Pod.address(), 8080 + self as u16).into()
    }

    /// Where the pod serves it for those who ask the pod itself. At an endpoint IPVS takes answers
    /// for those of a Service, from a port that a client has used for it before; only our tables
    /// mend that.
    pub(super) fn apart(self) -> SocketAddr {
        (Place::Pod.address(), 9080 + self as u16).into()
    }

    /// Serves it in the pod, at each place one client after the other.
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

/// What a client does again and again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exchange {
    /// A connection, from its beginning to its end.
    Connection,
    /// A byte there and back, over a connection that stays.
    RoundTrip,
    /// A datagram there and back, each from a new port.
    UdpFlow,
    /// The same from a port that stays.
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

    /// Who answers it.
    pub(super) fn with(self) -> Served {
        match self {
            Self::Connection => Served::Greeting,
            Self::RoundTrip => Served::Echo,
            Self::UdpFlow | Self::UdpRoundTrip => Served::Datagrams,
        }
    }

    /// Microseconds from one to the next, of many: the middle one, as the kernel's clock and its
    /// timers do their work in some of them. `settles` is whether what lasts gets cheaper.
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
                    server.set_read_timeout(Some(PATIENCE))?;
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

/// How long a client waits for an answer: on a node that gives none, the measurement fails.
const PATIENCE: Duration = Duration::from_secs(5);

fn connected(to: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

fn ask(server: &UdpSocket) -> Result<()> {
    server.send(b"?")?;
    server.recv(&mut [0])?;
    Ok(())
}

/// So many clients make one measurement: where the kernel's tables keep a connection is chance.
const CLIENTS: usize = 15;
/// What each of them does, so often.
const EXCHANGES: usize = 20;

/// How old a flow of datagrams has to be before connection tracking takes it for one that lasts.
const LASTING: Duration = Duration::from_millis(2_100);
/// So many exchanges, one in thirty-two of which hands the connection to the flowtable, do it.
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
