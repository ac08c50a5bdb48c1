//! A node as kube-proxy leaves it, in each of its modes, and as our earlier version does.

use std::io;
use std::process::Command;
use std::sync::Arc;

use super::namespace::{Namespace, run};

const IPVS: &str = include_str!("../kube-proxy/ipvs.rules");
const ADDRESSES: &str = include_str!("../kube-proxy/addresses.ip");
const SETS: &str = include_str!("../kube-proxy/sets.ipset");
const IPVS_RULES: [&str; 2] =
    [include_str!("../kube-proxy/iptables.rules"), include_str!("../kube-proxy/ip6tables.rules")];
const IPTABLES_RULES: [&str; 2] = [
    include_str!("../kube-proxy/iptables-mode.rules"),
    include_str!("../kube-proxy/ip6tables-mode.rules"),
];
const NFTABLES: &str = include_str!("../kube-proxy/nftables-mode.nft");
const EARLIER_TABLES: &str = include_str!("../earlier/tables.nft");
const EARLIER_NETWORK: &str = include_str!("../earlier/network.ip");
const EARLIER_IPVS: &str = include_str!("../earlier/ipvs.rules");
/// What kube-proxy sets of the kernel when it starts, and we do.
const SETTINGS: [&str; 4] = [
    "net.ipv4.vs.conntrack=1",
    "net.ipv4.vs.expire_nodest_conn=1",
    "net.ipv4.vs.expire_quiescent_template=1",
    "net.ipv4.ip_forward=1",
];
/// A load balancer IP. kube-proxy binds it unless another device has it.
const BOUND_IF_FREE: &str = "203.0.113.6";

/// kube-proxy's modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Virtual servers at all addresses of Services.
    Ipvs,
    /// Chains of a Service that translate to its endpoints.
    Iptables,
    /// Its own table, which does the same.
    Nftables,
}

/// kube-proxy's state on a node; all of it is taken away when this is dropped.
pub(crate) struct KubeProxy {
    node: Arc<Namespace>,
}

impl KubeProxy {
    /// Does what kube-proxy's first sync does: in its order, and keeping virtual servers that are
    /// as they should be.
    pub(crate) fn start(node: &Arc<Namespace>, mode: Mode) -> io::Result<Self> {
        let proxy = Self { node: Arc::clone(node) };
        node.sysctl(&SETTINGS)?;
        let rules = match mode {
            Mode::Ipvs => {
                // It adopts the device that is there.
                if node.read("ip", &["link", "show", "dev", "kube-ipvs0"]).is_err() {
                    node.ip("link add kube-ipvs0 type dummy\nlink set kube-ipvs0 arp off\n")?;
                }
                node.ip(ADDRESSES)?;
                node.inside(|| run(Command::new("ipset").arg("restore"), SETS))?;
                proxy.sync()?;
                IPVS_RULES
            }
            Mode::Iptables => IPTABLES_RULES,
            Mode::Nftables => {
                node.nft(NFTABLES)?;
                return Ok(proxy);
            }
        };
        for (program, rules) in ["iptables-nft-restore", "ip6tables-nft-restore"].iter().zip(rules)
        {
            node.inside(|| run(Command::new(program).arg("--noflush"), rules))?;
        }
        Ok(proxy)
    }

    /// Does what each later sync of its ipvs mode does.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let held = self.node.read("ipvsadm", &["-Sn"])?;
        let missing = IPVS.lines().filter(|line| !held.lines().any(|held| held.trim() == *line));
        let missing: String = missing.map(|line| format!("{line}\n")).collect();
        self.node.ipvsadm(&missing)?;
        if self.node.read("ip", &["-o", "addr", "show", "to", BOUND_IF_FREE])?.is_empty() {
            self.node.ip(&format!("addr add {BOUND_IF_FREE}/32 dev kube-ipvs0\n"))?;
            let set = ["-exist", "add", "KUBE-IPVS-IPS", BOUND_IF_FREE];
            self.node.read("ipset", &set)?;
        }
        Ok(())
    }

    /// Gives rules to `ipvsadm -R`, as an earlier state of the cluster.
    pub(crate) fn also(&self, ipvs: &str) -> io::Result<()> {
        self.node.ipvsadm(ipvs)
    }
}

/// Makes a node what our earlier version left.
pub(crate) fn leave_earlier_version(node: &Namespace) -> io::Result<()> {
    node.sysctl(&SETTINGS)?;
    node.nft(EARLIER_TABLES)?;
    node.ipvsadm(EARLIER_IPVS)?;
    node.ip(EARLIER_NETWORK)
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        for program in ["iptables-nft", "ip6tables-nft"] {
            for table in ["nat", "filter", "mangle"] {
                for what in ["-F", "-X"] {
                    let _ = self.node.read(program, &["-t", table, what]);
                }
            }
        }
        for table in ["nat", "filter", "mangle", "kube-proxy"] {
            for family in ["ip", "ip6"] {
                let _ = self.node.nft(&format!("delete table {family} {table}"));
            }
        }
        let _ = self.node.ip("link delete kube-ipvs0\n");
        // The kernel lets go of sets some time after the rules that named them are gone.
        for _ in 0..50 {
            if self.node.read("ipset", &["destroy"]).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for line in IPVS.lines().filter(|line| line.starts_with("-A")) {
            let words: Vec<&str> = line.split(' ').collect();
            let _ = self.node.read("ipvsadm", &["-D", words[1], words[2]]);
        }
    }
}
