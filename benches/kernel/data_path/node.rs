//! Nodes that carry the same traffic: with the agent's tables, or with plain kernel objects only.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::Ipvs;
use kube_ipvs::kernel::sysctl::{self, Sysctl};
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{
    Carry, Change, EndpointPort, Event, Family, InterfaceName, Interfaces, Link, LocalDetector,
    Settings,
};

use super::traffic::Served;
use crate::Result;
use crate::cluster::{Size, events, external, externally, frontend};
use crate::namespace::{Lab, Place, ip};
use crate::work::{settle, settle_ipvs};

/// What carries a node's traffic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Carrier {
    /// The agent's tables. Each of 100 Services has a load balancer IP and a node port.
    Ours,
    /// The same with 10,000 Services.
    Many,
    /// The agent's tables; connection tracking carries ClusterIPs, too.
    Carried,
    /// The same with a flowtable for established connections.
    Offloaded,
    /// The minimum for front ends that use IPVS through address translation: a map, virtual servers
    /// and a masquerade rule.
    Bare,
    /// The same map directly to the endpoints, without IPVS.
    Floor,
    /// IPVS with connection tracking, and chains without translation.
    Ipvs,
    /// The same with a masquerade rule for the node's own connections.
    Masquerading,
    /// IPVS with an empty chain at each hook that the agent uses.
    Hooked,
}

const PREROUTING: &str = "type nat hook prerouting priority -110;";
const OUTPUT: &str = "chain output { type nat hook output priority -110; }";
const POSTROUTING: &str = "type nat hook postrouting priority 100;";
/// Unreachable: the kernel tracks connections while a rule needs it.
const TRACKING: &str = "chain tracking { ct state invalid; }";
const FILTER: &str = "chain input { type filter hook input priority 110; }
    chain forward { type filter hook forward priority 110; }";

impl Carrier {
    /// Sets up a node of this kind with a serving pod.
    pub(super) fn lab(self) -> Result<Lab> {
        let lab = Lab::wire(&format!("{self:?}"))?;
        lab.at(Place::Node, || self.fill())?;
        Served::ALL.into_iter().try_for_each(|served| served.start(&lab))?;
        Ok(lab)
    }

    fn fill(self) -> Result<()> {
        let mut ipvs = Ipvs::open()?;
        let reports = sysctl::apply(sysctl::ROOT, Sysctl::needed(&Family::BOTH));
        if let Some(failure) = reports.iter().find(|report| !report.is_set()) {
            return Err(failure.to_string().into());
        }
        match self {
            Self::Ours => serve(100, Carry::FrontEnds),
            Self::Many => serve(10_000, Carry::FrontEnds),
            Self::Carried => serve(100, Carry::All),
            Self::Offloaded => serve(100, Carry::Offload(links().map(Interfaces::Named).to_vec())),
            Self::Floor => nft(&self.table()),
            Self::Bare | Self::Ipvs | Self::Masquerading | Self::Hooked => {
                let services = Served::ALL.len() as u32;
                settle_ipvs(&mut engine(services, &settings(Carry::FrontEnds)), &mut ipvs)?;
                for served in Served::ALL {
                    let address = Target::ClusterIp.of(served).ip();
                    ip(&format!("route add local {address} dev lo src {}", Place::Node.address()))?;
                }
                nft(&self.table())
            }
        }
    }

    fn table(self) -> String {
        let leads_to = match self {
            Self::Bare => |served| Target::ClusterIp.of(served),
            _ => Served::endpoint,
        };
        let [map, prerouting, postrouting, filter] = match self {
            Self::Bare | Self::Floor => [
                &*map(leads_to),
                "dnat ip to ip daddr . meta l4proto . th dport map @front-ends",
                "ct status dnat ct original ip daddr != 10.96.0.0/12 masquerade fully-random",
                "",
            ],
            Self::Masquerading => ["", "", "ip saddr 192.0.2.1 masquerade fully-random", ""],
            Self::Hooked => ["", "", "", FILTER],
            Self::Ours | Self::Many | Self::Carried | Self::Offloaded | Self::Ipvs => [""; 4],
        };
        format!(
            "table ip bench {{
                {map}
                chain prerouting {{ {PREROUTING} {prerouting}; }}
                {OUTPUT}
                chain postrouting {{ {POSTROUTING} {postrouting}; }}
                {TRACKING}
                {filter}
            }}"
        )
    }
}

/// Programs the kernel for `services` Services.
fn serve(services: u32, carry: Carry) -> Result<()> {
    let settings = settings(carry);
    let mut kernel = Kernel::open()?.configured(&settings)?;
    settle(&mut engine(services, &settings), &mut kernel).map(drop)
}

fn settings(carry: Carry) -> Settings {
    let pods = "10.244.0.0/16".parse().expect("a range");
    let local_detector = LocalDetector::ClusterCidr(vec![pods]);
    Settings { local_detector, carry, ..Settings::for_node("n1") }
}

/// Returns the node's links to its peers.
fn links() -> [InterfaceName; 3] {
    Place::PEERS.map(|place| place.link().parse().expect("a name"))
}

/// Returns a map from all front ends to their targets.
fn map(leads_to: fn(Served) -> SocketAddr) -> String {
    let lead = |served: Served, target: Target| {
        let [at, to] = [target.of(served), leads_to(served)];
        let protocol = served.protocol();
        format!("{} . {protocol} . {} : {} . {}", at.ip(), at.port(), to.ip(), to.port())
    };
    let leads = Served::ALL.map(|served| {
        let targets = [Target::ClusterIp, Target::LoadBalancer, Target::NodePort];
        targets.map(|target| lead(served, target)).join(", ")
    });
    format!(
        "map front-ends {{
            type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
            elements = {{ {} }}
        }}",
        leads.join(", ")
    )
}

/// The destination of clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    ClusterIp,
    LoadBalancer,
    NodePort,
    Pod,
}

impl Target {
    /// Returns the address of the destination.
    pub(super) fn of(self, served: Served) -> SocketAddr {
        let index = served.service();
        let (balanced, node_port) = external(index);
        let frontend = frontend(index);
        match self {
            Self::ClusterIp => SocketAddr::new(frontend.ip, frontend.port),
            Self::LoadBalancer => SocketAddr::new(balanced, frontend.port),
            Self::NodePort => (Place::Node.address(), node_port).into(),
            Self::Pod => served.apart(),
        }
    }
}

impl fmt::Display for Target {
    /// Formats the name for a row.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "clusterip",
            Self::LoadBalancer => "lb",
            Self::NodePort => "nodeport",
            Self::Pod => "pod",
        })
    }
}

/// Returns an engine with a cluster whose first Services have the pod as their only endpoint.
fn engine(services: u32, settings: &Settings) -> Engine {
    let size = Size { services, slices: 1, endpoints: 1 };
    let mut events = externally(events(size));
    for served in Served::ALL {
        let index = served.service();
        let protocol = served.protocol();
        for event in &mut events {
            match event {
                Event::Service(Change::Replace(all)) => {
                    all[index as usize].ports[0].protocol = protocol;
                }
                Event::Slice(Change::Replace(all)) => {
                    let slice = &mut all[index as usize];
                    let port = served.endpoint().port();
                    slice.ports =
                        [EndpointPort { port, protocol, ..slice.ports[0].clone() }].into();
                    slice.endpoints[0].address = served.endpoint().ip();
                }
                Event::Node(Some(node)) => {
                    node.pod_cidrs = ["10.244.1.0/24".parse().expect("range")].into();
                }
                _ => {}
            }
        }
    }
    let mut engine = Engine::new(settings, None);
    events.push(Event::Links(links().map(|name| Link { name, index: 0 }).to_vec()));
    events.into_iter().for_each(|event| engine.handle_event(event));
    engine
}

fn nft(commands: &str) -> Result<()> {
    let done = Command::new("nft").arg(commands).status()?;
    if done.success() { Ok(()) } else { Err(format!("nft {commands}: {done}").into()) }
}
