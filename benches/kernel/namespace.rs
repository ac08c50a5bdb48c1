//! Network namespaces of a measurement's own: a kernel that has just removed real servers is slower
//! to add some.

use std::fs::File;
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

/// Each pod has a link of its own, so that what it sends to the other one is routed, as what it
/// sends to other nodes is.
const WIRING: &str = "\
netns add kube-ipvs-bench-node
netns add kube-ipvs-bench-pod
netns add kube-ipvs-bench-other-pod
-n kube-ipvs-bench-node link set lo up
-n kube-ipvs-bench-node link add uplink type dummy
-n kube-ipvs-bench-node address add 192.0.2.1/24 dev uplink
-n kube-ipvs-bench-node link set uplink up
-n kube-ipvs-bench-node link add pod type veth peer name eth0 netns kube-ipvs-bench-pod
-n kube-ipvs-bench-node address add 10.244.1.1 peer 10.244.1.5 dev pod
-n kube-ipvs-bench-node link set pod up
-n kube-ipvs-bench-pod address add 10.244.1.5 peer 10.244.1.1 dev eth0
-n kube-ipvs-bench-pod link set eth0 up
-n kube-ipvs-bench-pod route add default via 10.244.1.1
-n kube-ipvs-bench-node link add other-pod type veth peer name eth0 netns kube-ipvs-bench-other-pod
-n kube-ipvs-bench-node address add 10.244.1.1 peer 10.244.1.6 dev other-pod
-n kube-ipvs-bench-node link set other-pod up
-n kube-ipvs-bench-other-pod address add 10.244.1.6 peer 10.244.1.1 dev eth0
-n kube-ipvs-bench-other-pod link set eth0 up
-n kube-ipvs-bench-other-pod route add default via 10.244.1.1";

/// Measures on a node of its own.
pub(crate) fn on_node<T: Send + 'static>(
    measure: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let wired = WIRING.lines().try_for_each(ip);
    let measured = wired.and_then(|()| {
        let inside = thread::spawn(move || {
            enter(NODE)?;
            measure()
        });
        inside.join().map_err(|_| "the measurement panicked".into()).flatten()
    });
    for name in [OTHER_POD, POD, NODE] {
        ip(&format!("netns delete {name}"))?;
    }
    measured
}

/// Moves the thread into a namespace.
pub(crate) fn enter(name: &str) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{name}"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn ip(arguments: &str) -> Result<()> {
    let done = Command::new("ip").args(arguments.split(' ')).status()?;
    if done.success() { Ok(()) } else { Err(format!("ip {arguments}: {done}").into()) }
}
