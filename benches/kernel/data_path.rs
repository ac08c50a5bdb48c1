//! Connections through a ClusterIP with our table, against the same kernel with IPVS and connection
//! tracking alone.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::model::{Change, EndpointPort, EndpointSlice, Event, Protocol};
use kube_ipvs::plan::FilterOperation;

use crate::cluster::{Size, events, frontend, slice};
use crate::figure::Figure;
use crate::namespace::{POD, enter, on_node};
use crate::work::{engine, settle};
use crate::{ROUNDS, Result};

const CONNECTIONS: u32 = 1_000;
const PORT: u16 = 8080;
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

/// The pod's server: takes connections, says a byte and closes.
fn serve() -> Result<()> {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || -> Result<()> {
        enter(POD)?;
        let listener = TcpListener::bind(("10.244.1.5", PORT))?;
        ready.send(())?;
        for connection in listener.incoming() {
            std::io::Write::write_all(&mut connection?, b"!")?;
        }
        Ok(())
    });
    Ok(is_ready.recv()?)
}

/// Connections per second, one after the other.
fn rate(to: SocketAddr) -> Result<f64> {
    let mut most = 0_f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CONNECTIONS {
            let mut answer = [0];
            TcpStream::connect(to)?.read_exact(&mut answer)?;
        }
        most = most.max(f64::from(CONNECTIONS) / start.elapsed().as_secs_f64());
    }
    Ok(most)
}

/// A cluster whose first Service has the pod as its only endpoint.
fn served(services: u32) -> Vec<Event> {
    let size = Size { services, slices: 1, endpoints: 1 };
    let mut first = slice(size, 0, 0, 1);
    for endpoint in &mut first.endpoints {
        endpoint.address = [10, 244, 1, 5].into();
    }
    let ports = [EndpointPort { name: "http".into(), protocol: Protocol::Tcp, port: PORT }];
    let first = EndpointSlice { ports: ports.into(), ..first };
    let mut events = events(size);
    events.push(Event::Slice(Change::Apply(first)));
    events
}

/// With our table; with connection tracking alone; with address translation of nothing, too.
fn rates(services: u32) -> Result<[f64; 3]> {
    on_node(move || {
        serve()?;
        let mut kernel = Kernel::open()?;
        settle(&mut engine(served(services)), &mut kernel)?;
        sysctl("net.ipv4.vs.conntrack=1")?;
        sysctl("net.ipv4.ip_forward=1")?;
        let frontend = frontend(0);
        let to = SocketAddr::new(frontend.ip, frontend.port);
        let ours = rate(to)?;
        for outcome in kernel.apply(&[FilterOperation::DeleteTables.into()]) {
            outcome.map_err(|failure| failure.to_string())?;
        }
        nft(TRACKING)?;
        let tracked = rate(to)?;
        nft(TRANSLATION)?;
        Ok([ours, tracked, rate(to)?])
    })
}

fn sysctl(setting: &str) -> Result<()> {
    let (name, value) = setting.split_once('=').ok_or("no value")?;
    Ok(std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)?)
}

fn nft(commands: &str) -> Result<()> {
    let done = Command::new("nft").arg(commands).status()?;
    if done.success() { Ok(()) } else { Err(format!("nft: {done}").into()) }
}

pub(crate) fn connections() -> Result<Vec<Figure>> {
    let [few, tracked, translated] = rates(10)?;
    let [many, ..] = rates(10_000)?;
    // More is better; a ratio above 1 is to mean that ours is slower, as everywhere in the table.
    let each = |rate: f64| 1e6 / rate;
    let figure =
        |name, what, ours, baseline| Figure::new(name, what, "µs", each(ours), each(baseline));
    let what = "a connection through one of 10 ClusterIPs; baseline IPVS without our table";
    let rules = "the same; baseline IPVS with address translation that translates nothing";
    let flat = "the same through one of 10,000; baseline of 10";
    Ok(vec![
        figure("data_path_cps", what, few, tracked),
        figure("data_path_rules", rules, few, translated),
        figure("data_path_flatness", flat, many, few),
    ])
}
