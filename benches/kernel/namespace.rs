//! Separate network namespaces for measurements: a kernel that has just removed real servers is
//! slower to add others.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

const NODE: &str = "kube-ipvs-bench-node";

/// The commands for a node with address 192.0.2.1.
const NODE_WIRING: &str = "\
link set lo up
link add uplink type dummy
address add 192.0.2.1/24 dev uplink
link set uplink up";

/// The commands for a node's link to a peer. Each peer has its own link, so that packets between
/// peers are routed, as between nodes.
const LINK_WIRING: &str = "\
link add LINK type veth peer name eth0 netns PEER
address add 10.244.1.1 peer ADDRESS dev LINK
link set LINK up";

/// The commands for a peer of the node.
const PEER_WIRING: &str = "\
link set lo up
address add ADDRESS peer 10.244.1.1 dev eth0
link set eth0 up
route add default via 10.244.1.1";

fn wire_node(name: &str) -> Result<()> {
    ip(&format!("netns add {name}"))?;
    ip_in(name, NODE_WIRING)
}

/// A source or destination of packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    Node,
    /// A pod of the node.
    Pod,
    /// Another pod of the node.
    OtherPod,
    /// A host outside.
    Outside,
}

impl Place {
    pub(crate) const PEERS: [Self; 3] = [Self::Pod, Self::OtherPod, Self::Outside];

    /// Returns the name of the node's link to it.
    pub(crate) fn link(self) -> String {
        format!("{self:?}")
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Node => Ipv4Addr::new(192, 0, 2, 1),
            Self::Pod => Ipv4Addr::new(10, 244, 1, 5),
            Self::OtherPod => Ipv4Addr::new(10, 244, 1, 6),
            Self::Outside => Ipv4Addr::new(198, 51, 100, 2),
        }
    }
}

/// A node with two pods and a host outside.
pub(crate) struct Lab {
    name: String,
}

impl Lab {
    pub(crate) fn wire(name: &str) -> Result<Self> {
        let lab = Self { name: format!("{NODE}-{name}") };
        let node = lab.namespace(Place::Node);
        wire_node(&node)?;
        for place in Place::PEERS {
            let [peer, address] = [lab.namespace(place), place.address().to_string()];
            let named = |wiring: &str| {
                let wiring = wiring.replace("PEER", &peer).replace("ADDRESS", &address);
                wiring.replace("LINK", &place.link())
            };
            ip(&format!("netns add {peer}"))?;
            ip_in(&node, &named(LINK_WIRING))?;
            ip_in(&peer, &named(PEER_WIRING))?;
        }
        Ok(lab)
    }

    /// Runs `act` there on a separate thread.
    pub(crate) fn at<T: Send>(
        &self,
        place: Place,
        act: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let inside = || {
            enter(&self.namespace(place))?;
            act()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| "a thread of the measurement panicked")?
    }

    fn namespace(&self, place: Place) -> String {
        format!("{}-{place:?}", self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for place in Place::PEERS.into_iter().chain([Place::Node]) {
            let _ = ip(&format!("netns delete {}", self.namespace(place)));
        }
    }
}

/// Measures on a fresh node.
pub(crate) fn on_node<T: Send + 'static>(
    measure: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let measured = wire_node(NODE).and_then(|()| {
        apart(|| {
            enter(NODE)?;
            measure()
        })
    });
    ip(&format!("netns delete {NODE}"))?;
    measured
}

/// Measures on several nodes in turn, which exist all the time. [`enter`] selects a node.
pub(crate) fn on_nodes<T: Send + 'static, const N: usize>(
    measure: impl FnOnce([&str; N]) -> Result<T> + Send + 'static,
) -> Result<T> {
    let names: [String; N] = std::array::from_fn(|index| format!("{NODE}-{index}"));
    let wired = names.iter().try_for_each(|name| wire_node(name));
    let inside = names.clone();
    let measured =
        wired.and_then(|()| apart(move || measure(inside.each_ref().map(String::as_str))));
    for name in names {
        ip(&format!("netns delete {name}"))?;
    }
    measured
}

/// Runs on a separate thread with its own namespace.
fn apart<T: Send + 'static>(measure: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::spawn(measure).join().map_err(|_| "the measurement panicked")?
}

/// Moves the thread to a namespace.
pub(crate) fn enter(name: &str) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{name}"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Sets a sysctl of the namespace, as `name=value`.
pub(crate) fn sysctl(setting: &str) -> Result<()> {
    let (name, value) = setting.split_once('=').ok_or("no value")?;
    Ok(fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)?)
}

/// Runs `ip` with arguments.
pub(crate) fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).status()?;
    if done.success() { Ok(()) } else { Err(format!("ip {arguments}: {done}").into()) }
}

/// Runs `ip` in a namespace with lines of commands.
fn ip_in(name: &str, lines: &str) -> Result<()> {
    let mut ip = Command::new("ip");
    let mut ip = ip.args(["-n", name, "-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    ip.stdin.take().ok_or("no input")?.write_all(lines.as_bytes())?;
    let done = ip.wait()?;
    if done.success() { Ok(()) } else { Err(format!("ip -n {name}: {lines}: {done}").into()) }
}
