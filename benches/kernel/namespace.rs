//! Network namespaces of a measurement's own: a kernel that has just removed real servers is slower
//! to add some.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// The node, 192.0.2.1.
const NODE: &str = "kube-ipvs-bench-node";
/// A pod of the node, at 10.244.1.5.
pub(crate) const POD: &str = "kube-ipvs-bench-pod";
/// Another one, at 10.244.1.6.
pub(crate) const OTHER_POD: &str = "kube-ipvs-bench-other-pod";

/// What makes a node.
const NODE_WIRING: &str = "\
netns add NODE
-n NODE link set lo up
-n NODE link add uplink type dummy
-n NODE address add 192.0.2.1/24 dev uplink
-n NODE link set uplink up";

/// What makes a pod. Each has a link of its own, so that what it sends to another one is routed, as
/// what it sends to other nodes is.
const POD_WIRING: &str = "\
netns add POD
-n POD link set lo up
-n NODE link add LINK type veth peer name eth0 netns POD
-n NODE address add 10.244.1.1 peer ADDRESS dev LINK
-n NODE link set LINK up
-n POD address add ADDRESS peer 10.244.1.1 dev eth0
-n POD link set eth0 up
-n POD route add default via 10.244.1.1";

fn wire_node(name: &str) -> Result<()> {
    NODE_WIRING.replace("NODE", name).lines().try_for_each(ip)
}

fn wire_pod(name: &str, link: &str, address: &str) -> Result<()> {
    let names = [("NODE", NODE), ("POD", name), ("LINK", link), ("ADDRESS", address)];
    let wiring =
        names.iter().fold(POD_WIRING.to_owned(), |wiring, (word, name)| wiring.replace(word, name));
    wiring.lines().try_for_each(ip)
}

/// Measures on a node of its own.
pub(crate) fn on_node<T: Send + 'static>(
    measure: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let wired = wire_node(NODE)
        .and_then(|()| wire_pod(POD, "pod", "10.244.1.5"))
        .and_then(|()| wire_pod(OTHER_POD, "other-pod", "10.244.1.6"));
    let measured = wired.and_then(|()| {
        apart(|| {
            enter(NODE)?;
            measure()
        })
    });
    for name in [OTHER_POD, POD, NODE] {
        ip(&format!("netns delete {name}"))?;
    }
    measured
}

/// Measures on several nodes in turn, which are there all the time. They have no pods; [`enter`]
/// leads to each.
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

fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).status()?;
    if done.success() { Ok(()) } else { Err(format!("ip {arguments}: {done}").into()) }
}
