//! The network that every case runs in: see [`Host`] for a picture.

use std::fmt::Write;
use std::io;
use std::process::Command;
use std::sync::Arc;

use kube_ipvs::kernel::route::has_ipv6;
use kube_ipvs_core::model::Family;

use super::families;
use super::host::{Host, gateway};
use super::namespace::Namespace;

/// What the lab and the agent use. Some modules are not loaded on demand, and each of the others would
/// make a test wait for the disk.
const MODULES: &str = include_str!("../../../hack/modules");

/// The hosts, wired up.
pub(crate) struct Topology {
    hosts: [Arc<Namespace>; Host::ALL.len()],
    /// Connects the nodes and the external client; kept alive only.
    _switch: Namespace,
}

impl Topology {
    /// Builds the network.
    pub(crate) fn build() -> io::Result<Self> {
        // A kernel may lack modules that few cases need.
        Command::new("modprobe").arg("--all").args(MODULES.split_whitespace()).output()?;
        let [switch, hosts @ ..]: [Namespace; 1 + Host::ALL.len()] =
            Namespace::create(["switch", "N1", "N2", "P1", "P2", "P3", "P4", "C"])?;
        let topology = Self { hosts: hosts.map(Arc::new), _switch: switch };
        topology.wire()?;
        Ok(topology)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, host: Host) -> &Arc<Namespace> {
        &self.hosts[host as usize]
    }

    fn wire(&self) -> io::Result<()> {
        let switch = &self._switch;
        let quick = [
            // No duplicate address detection: addresses are to be usable at once.
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.all.accept_dad=0",
            // No connection is remembered after its end: a client may use its port again at once, and
            // a server that masqueraded clients share takes no new connection for an old one, which
            // would cost its first segment.
            "net.ipv4.tcp_max_tw_buckets=0",
        ];
        switch.sysctl(&of_kernel(&["net.ipv6.conf.default.disable_ipv6=1"]))?;
        for host in Host::ALL {
            self.host(host).sysctl(&of_kernel(&quick))?;
        }

        let mut lines = "link set lo up\nlink add br0 type bridge\nlink set br0 up\n".to_owned();
        for host in [Host::N1, Host::N2, Host::C] {
            let (port, peer) = (host.name(), self.host(host).path());
            let _ = writeln!(lines, "link add {port} type veth peer name eth0 netns {peer}");
            let _ = writeln!(lines, "link set {port} master br0 up");
        }
        switch.ip(&lines)?;

        for (number, node, pods) in
            [(1, Host::N1, [Host::P1, Host::P2]), (2, Host::N2, [Host::P3, Host::P4])]
        {
            self.wire_node(number, node, pods)?;
        }
        self.wire_outsider()
    }

    /// A node as a bridge CNI with routes to the other node's pods leaves it.
    fn wire_node(&self, number: u8, node: Host, pods: [Host; 2]) -> io::Result<()> {
        let other = if node == Host::N1 { Host::N2 } else { Host::N1 };
        let mut lines = "link set lo up\nlink add cni0 type bridge\n".to_owned();
        for pod in pods {
            let (port, peer) = (pod.name(), self.host(pod).path());
            let _ = writeln!(lines, "link add {port} type veth peer name eth0 netns {peer}");
            let _ = writeln!(lines, "link set {port} master cni0 up");
            // `hairpinMode` of the bridge CNI: a pod may be sent back to itself.
            let _ = writeln!(lines, "link set {port} type bridge_slave hairpin on");
        }
        lines.push_str("link set cni0 up\nlink set eth0 up\n");
        for family in families() {
            let (net_length, pod_length) = lengths(family);
            let _ = writeln!(lines, "addr add {}/{net_length} dev eth0", node.ip(family));
            let _ = writeln!(lines, "addr add {}/{pod_length} dev cni0", gateway(number, family));
            let via = other.ip(family);
            let pods = gateway(3 - number, family);
            let network = match family {
                Family::V4 => format!("10.244.{}.0/24", 3 - number),
                Family::V6 => format!("{pods}/{pod_length}").replace("::1/", "::/"),
            };
            let _ = writeln!(lines, "route add {network} via {via}");
            // The way to everything else leads over the external client, as over any router.
            let _ = writeln!(lines, "route add default via {}", Host::C.ip(family));
        }
        let namespace = self.host(node);
        namespace.ip(&lines)?;
        namespace.sysctl(&of_kernel(&[
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.bridge.bridge-nf-call-iptables=1",
            "net.bridge.bridge-nf-call-ip6tables=1",
            // The kernel sends one refusal per second and peer by default; a case asks more often.
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv6.icmp.ratelimit=0",
        ]))?;
        for pod in pods {
            let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
            for family in families() {
                let (_, length) = lengths(family);
                let _ = writeln!(lines, "addr add {}/{length} dev eth0", pod.ip(family));
                let _ = writeln!(lines, "route add default via {}", gateway(number, family));
            }
            self.host(pod).ip(&lines)?;
        }
        Ok(())
    }

    /// The external client knows service addresses (behind `n1`) and no pods.
    fn wire_outsider(&self) -> io::Result<()> {
        let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
        for family in families() {
            let (length, _) = lengths(family);
            let _ = writeln!(lines, "addr add {}/{length} dev eth0", Host::C.ip(family));
            let _ = writeln!(lines, "route add default via {}", Host::N1.ip(family));
        }
        self.host(Host::C).ip(&lines)
    }
}

/// The settings that the kernel has.
fn of_kernel(settings: &[&'static str]) -> Vec<&'static str> {
    let is_there = |setting: &&str| has_ipv6() || !setting.starts_with("net.ipv6.");
    settings.iter().copied().filter(is_there).collect()
}

/// Prefix lengths of the nodes' network and of a node's pods.
fn lengths(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (24, 24),
        Family::V6 => (64, 64),
    }
}
