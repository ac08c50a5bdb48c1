//! Network namespaces of a measurement's own: a kernel that has just removed real servers is slower
//! to add some.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// A node of its own.
const NODE: &str = "kube-ipvs-bench-node";

/// What makes a node, which is 192.0.2.1.
const NODE_WIRING: &str = "\
netns add NODE
-n NODE link set lo up
-n NODE link add uplink type dummy
-n NODE address add 192.0.2.1/24 dev uplink
-n NODE link set uplink up";

/// What makes somebody whom the node reaches. Each has a link of its own, so that what it sends to
/// another one is routed, as what it sends to other nodes is.
const PEER_WIRING: &str = "\
netns add PEER
-n PEER link set lo up
-n NODE link add LINK type veth peer name eth0 netns PEER
-n NODE address add 10.244.1.1 peer ADDRESS dev LINK
-n NODE link set LINK up
-n PEER address add ADDRESS peer 10.244.1.1 dev eth0
-n PEER link set eth0 up
-n PEER route add default via 10.244.1.1";

fn wire_node(name: &str) -> Result<()> {
    NODE_WIRING.replace("NODE", name).lines().try_for_each(ip)
}

/// Where packets come from or go to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// The node itself.
    Node,
    /// A pod of the node.
    Pod,
    /// Another one.
    OtherPod,
    /// Beyond the node.
    Outside,
}

impl Place {
    const PEERS: [Self; 3] = [Self::Pod, Self::OtherPod, Self::Outside];

    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Node => Ipv4Addr::new(192, 0, 2, 1),
            Self::Pod => Ipv4Addr::new(10, 244, 1, 5),
            Self::OtherPod => Ipv4Addr::new(10, 244, 1, 6),
            Self::Outside => Ipv4Addr::new(198, 51, 100, 2),
        }
    }
}

/// A node with two pods and somebody outside.
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
            let link = format!("{place:?}");
            let words = [("NODE", &node), ("PEER", &peer), ("LINK", &link), ("ADDRESS", &address)];
            let wiring = PEER_WIRING.to_owned();
            let wiring =
                words.iter().fold(wiring, |wiring, (word, name)| wiring.replace(word, name));
            wiring.lines().try_for_each(ip)?;
        }
        Ok(lab)
    }

    /// Acts there, in a thread of its own.
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

/// Measures on a node of its own.
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

/// Measures on several nodes in turn, which are there all the time. [`enter`] leads to each.
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

/// In a thread of its own, whose namespace is nobody else's.
fn apart<T: Send + 'static>(measure: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::spawn(measure).join().map_err(|_| "the measurement panicked")?
}

/// Moves the thread into a namespace.
pub(crate) fn enter(name: &str) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{name}"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Sets what the kernel lets each namespace have for itself, as `name=value`.
pub(crate) fn sysctl(setting: &str) -> Result<()> {
    let (name, value) = setting.split_once('=').ok_or("no value")?;
    Ok(fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)?)
}

/// What `ip` does with these words.
pub(crate) fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).status()?;
    if done.success() { Ok(()) } else { Err(format!("ip {arguments}: {done}").into()) }
}
