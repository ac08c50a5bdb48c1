//! Servers in the hosts: each answer names the host and port that gave it and the client's address
//! as the server sees it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Family, Protocol};

use super::client::LARGEST_DATAGRAM;
use super::dns;
use super::families;
use super::host::Host;
use super::namespace::Namespace;
use super::socket;

/// A server on one port; dropping it ends it and its connections.
pub(crate) struct Server {
    namespace: Arc<Namespace>,
    at: SocketAddr,
    protocol: Protocol,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    /// What answers start with: `P1:8080`.
    label: String,
    stopping: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Server {
    /// Serves at the host's own address of a family.
    pub(crate) fn start(
        namespace: &Arc<Namespace>,
        host: Host,
        family: Family,
        port: u16,
        protocol: Protocol,
    ) -> io::Result<Self> {
        Self::start_at(namespace, host, SocketAddr::new(host.ip(family), port), protocol)
    }

    /// Serves at every address that the host has or gets.
    pub(crate) fn start_on_all_addresses(
        namespace: &Arc<Namespace>,
        host: Host,
        port: u16,
        protocol: Protocol,
    ) -> io::Result<Self> {
        let any = families().last().unwrap_or(Family::V4).unspecified();
        let any = SocketAddr::new(any, port);
        Self::start_at(namespace, host, any, protocol)
    }

    /// Serves at an address.
    pub(crate) fn start_at(
        namespace: &Arc<Namespace>,
        host: Host,
        at: SocketAddr,
        protocol: Protocol,
    ) -> io::Result<Self> {
        let state = Arc::new(State {
            label: format!("{host}:{}", at.port()),
            stopping: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let context = |error: io::Error| {
            io::Error::new(error.kind(), format!("{host} cannot serve {at}/{protocol}: {error}"))
        };
        let thread = match protocol {
            Protocol::Udp => {
                let socket = namespace.inside(|| UdpSocket::bind(at)).map_err(context)?;
                thread::spawn(move || shared.answer_datagrams(&socket))
            }
            Protocol::Tcp | Protocol::Sctp => {
                let listener =
                    namespace.inside(|| socket::stream_listener(protocol, at)).map_err(context)?;
                thread::spawn(move || shared.answer_connections(&listener))
            }
        };
        let namespace = Arc::clone(namespace);
        Ok(Self { namespace, at, protocol, state, thread: Some(thread) })
    }

    /// Takes no new client any more; those that it has are answered on.
    pub(crate) fn close(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        // A server that cannot be woken is left to the end of the process: its address may be
        // another's by now.
        let Some(thread) = self.thread.take().filter(|_| self.lookup().is_ok()) else { return };
        let deadline = Instant::now() + Duration::from_secs(1);
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Wakes the thread that waits for clients: it looks at `stopping` after each one.
    fn lookup(&self) -> io::Result<()> {
        let patience = Duration::from_secs(1);
        let to = match self.at.ip() {
            ip if !ip.is_unspecified() => self.at,
            _ => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.at.port()),
        };
        self.namespace.inside(|| match self.protocol {
            Protocol::Udp => socket::datagram(0, to, patience)?.send(b"stop").map(drop),
            Protocol::Tcp | Protocol::Sctp => {
                socket::stream(self.protocol, 0, to, patience).map(drop)
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.close();
        }
        for connection in self.state.connections.lock().expect("no thread panics").drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn answer(&self, client: SocketAddr) -> String {
        let ip: IpAddr = client.ip().to_canonical();
        format!("{} {}\n", self.label, SocketAddr::new(ip, client.port()))
    }

    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if self.is_stopping() {
                return;
            }
            let answer = self.answer(client);
            let mut reply = dns::reply(&buffer[..length], answer.trim_end())
                .unwrap_or_else(|| answer.into_bytes());
            reply.resize(reply.len().max(length), b' ');
            let _ = socket.send_to(&reply, client);
        }
    }

    fn answer_connections(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((stream, client)) = listener.accept() {
            if self.is_stopping() {
                return;
            }
            if let Ok(copy) = stream.try_clone() {
                self.connections.lock().expect("no thread panics").push(copy);
            }
            let answer = self.answer(client);
            let state = Arc::clone(&self);
            thread::spawn(move || {
                let _ = serve_http(&stream, &answer);
                // The copy above keeps the socket open: say explicitly that it is over.
                let _ = stream.shutdown(Shutdown::Both);
                let mut connections = state.connections.lock().expect("no thread panics");
                connections.retain(|other| other.peer_addr().is_ok());
            });
        }
    }
}

/// Answers requests on one connection until the client closes it or asks to.
fn serve_http(mut stream: &TcpStream, answer: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..length]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let response =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(response.as_bytes())?;
        if head.contains("connection: close") {
            return Ok(());
        }
        request.clear();
    }
}
