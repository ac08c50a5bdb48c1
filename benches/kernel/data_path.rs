//! Connections through a ClusterIP with our table, against the same kernel with IPVS and connection
//! tracking alone.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::model::{Change, EndpointPort, EndpointSlice, Event, Node, Protocol};
use kube_ipvs::plan::FilterOperation;

use crate::cluster::{Size, events, frontend, slice};
use crate::figure::Figure;
use crate::namespace::{OTHER_POD, POD, enter, on_node, sysctl};
use crate::work::{engine, settle};
use crate::{ROUNDS, Result};

const CONNECTIONS: u32 = 1_000;
const ROUND_TRIPS: u32 = 5_000;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);

/// What the pod serves, each behind a Service of its own.
#[derive(Clone, Copy)]
enum Served {
    /// A byte, said to whoever connects.
    Greeting,
    /// Each byte that the client says.
    Echo,
}

impl Served {
    const ALL: [Self; 2] = [Self::Greeting, Self::Echo];

    fn service(self) -> u32 {
        self as u32
    }

    /// The pod's port.
    fn port(self) -> u16 {
        8080 + self as u16
    }

    fn frontend(self) -> SocketAddr {
        let frontend = frontend(self.service());
        SocketAddr::new(frontend.ip, frontend.port)
    }

    fn serve(self, mut client: TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        match self {
            Self::Greeting => client.write_all(b"!")?,
            Self::Echo => {
                let mut byte = [0];
                while client.read(&mut byte)? > 0 {
                    client.write_all(&byte)?;
                }
            }
        }
        Ok(())
    }

    /// Serves it in the pod, one client after the other.
    fn start(self) -> Result<()> {
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || -> Result<()> {
            enter(POD)?;
            let listener = TcpListener::bind((SERVER, self.port()))?;
            ready.send(())?;
            listener.incoming().try_for_each(|client| self.serve(client?))
        });
        Ok(is_ready.recv()?)
    }
}

/// Microseconds that each of many takes, one after the other.
fn each(count: u32, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        (0..count).try_for_each(|_| once())?;
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    Ok(least)
}

/// A connection, from its beginning to its end.
fn connection() -> Result<f64> {
    let to = Served::Greeting.frontend();
    each(CONNECTIONS, || Ok(TcpStream::connect(to)?.read_exact(&mut [0])?))
}

/// A byte there and back, over a connection that stays.
fn round_trip() -> Result<f64> {
    let mut server = TcpStream::connect(Served::Echo.frontend())?;
    server.set_nodelay(true)?;
    each(ROUND_TRIPS, || {
        server.write_all(b"?")?;
        Ok(server.read_exact(&mut [0])?)
    })
}

/// What it takes through a ClusterIP, in microseconds.
struct Costs {
    /// A pod's connection to another pod of the node.
    pod: f64,
    /// The same of a process of the node itself.
    node: f64,
    /// A byte there and back between the two pods.
    latency: f64,
}

impl Costs {
    fn measure() -> Result<Self> {
        let in_pod = thread::spawn(|| -> Result<_> {
            enter(OTHER_POD)?;
            Ok((connection()?, round_trip()?))
        });
        let (pod, latency) = in_pod.join().map_err(|_| "the pod's client panicked")??;
        Ok(Self { pod, node: connection()?, latency })
    }
}

/// A cluster whose first Services have the pod as their only endpoint.
fn served(services: u32) -> Vec<Event> {
    let size = Size { services, slices: 1, endpoints: 1 };
    let mut events = events(size);
    events.push(Event::Node(Some(Node {
        name: "n1".into(),
        internal_ips: [Ipv4Addr::new(192, 0, 2, 1).into()].into(),
        pod_cidrs: ["10.244.1.0/24".parse().expect("range")].into(),
        zone: None,
        eligible: true,
    })));
    events.extend(Served::ALL.map(|served| {
        let mut slice = slice(size, served.service(), 0, 1);
        for endpoint in &mut slice.endpoints {
            endpoint.address = SERVER.into();
        }
        let port =
            EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: served.port() };
        Event::Slice(Change::Apply(EndpointSlice { ports: [port].into(), ..slice }))
    }));
    events
}

/// With our table; with connection tracking alone; with address translation of nothing, too.
fn costs(services: u32) -> Result<[Costs; 3]> {
    on_node(move || {
        Served::ALL.into_iter().try_for_each(Served::start)?;
        let mut kernel = Kernel::open()?;
        settle(&mut engine(served(services)), &mut kernel)?;
        sysctl("net.ipv4.vs.conntrack=1")?;
        sysctl("net.ipv4.ip_forward=1")?;
        let ours = Costs::measure()?;
        for outcome in kernel.apply(&[FilterOperation::DeleteTables.into()]) {
            outcome.map_err(|failure| failure.to_string())?;
        }
        nft(TRACKING)?;
        let tracked = Costs::measure()?;
        nft(TRANSLATION)?;
        Ok([ours, tracked, Costs::measure()?])
    })
}

/// What keeps connection tracking going without our table.
const TRACKING: &str = "table inet bench {
    chain late { type filter hook input priority 110; ct state invalid drop; }
}";
/// What whoever masquerades anything has.
const TRANSLATION: &str = "table inet bench {
    chain pre { type nat hook prerouting priority -110; }
    chain out { type nat hook output priority -110; }
    chain post { type nat hook postrouting priority 100; }
}";

fn nft(commands: &str) -> Result<()> {
    let done = Command::new("nft").arg(commands).status()?;
    if done.success() { Ok(()) } else { Err(format!("nft: {done}").into()) }
}

pub(crate) fn connections() -> Result<Vec<Figure>> {
    let [few, tracked, translated] = costs(10)?;
    let [many, ..] = costs(10_000)?;
    // Costs, not rates: a ratio above 1 is to mean that ours takes more, as everywhere in the table.
    let figure = |name, what, ours, baseline| Figure::new(name, what, "µs", ours, baseline);
    let pod = "a pod's connection to another through one of 10 ClusterIPs; baseline IPVS alone";
    let latency = "a byte there and back between the pods; baseline IPVS alone";
    let node = "a connection of the node's own process; baseline IPVS alone";
    let rules = "the same; baseline IPVS with address translation that translates nothing";
    let flat = "a pod's connection through one of 10,000; baseline of 10";
    Ok(vec![
        figure("data_path_cps", pod, few.pod, tracked.pod),
        figure("data_path_rules", rules, few.pod, translated.pod),
        figure("data_path_latency", latency, few.latency, tracked.latency),
        figure("data_path_latency_rules", rules, few.latency, translated.latency),
        figure("data_path_node_cps", node, few.node, tracked.node),
        figure("data_path_node_rules", rules, few.node, translated.node),
        figure("data_path_flatness", flat, many.pod, few.pod),
    ])
}
