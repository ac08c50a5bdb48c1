//! What the kernel of `n1` holds, as the usual tools show it.

use std::fmt;
use std::io;

use super::namespace::Namespace;

/// All that the agent may touch, in text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KernelListing {
    /// `ipvsadm -Sn`, sorted.
    pub(crate) ipvs: String,
    /// `nft list ruleset`, without counters.
    pub(crate) nft: String,
    /// Links, addresses, rules and routes of all tables, both families.
    pub(crate) network: String,
}

impl KernelListing {
    /// Reads it.
    pub(crate) fn read(node: &Namespace) -> io::Result<Self> {
        let mut network = node.read("ip", &["-o", "-d", "link", "show", "type", "dummy"])?;
        for (family, object) in [("-4", "rule"), ("-4", "route"), ("-6", "rule"), ("-6", "route")] {
            let arguments: &[&str] = match object {
                "rule" => &[family, "rule", "show"],
                _ => &[family, "route", "show", "table", "all"],
            };
            network.push_str(&node.read("ip", arguments)?);
        }
        Ok(Self {
            ipvs: ipvs_rules(node)?,
            nft: node.read("nft", &["--stateless", "list", "ruleset"])?,
            network: without_neighbours(&network),
        })
    }
}

impl fmt::Display for KernelListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# ipvsadm -Sn\n{}\n# nft\n{}\n# ip\n{}", self.ipvs, self.nft, self.network)
    }
}

/// `ipvsadm -Sn`, sorted.
pub(crate) fn ipvs_rules(node: &Namespace) -> io::Result<String> {
    let rules = node.read("ipvsadm", &["-Sn"])?;
    let mut lines: Vec<&str> = rules.lines().collect();
    lines.sort_unstable();
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// Drops what comes and goes by itself: cached path MTUs and the order of multicast routes.
fn without_neighbours(network: &str) -> String {
    let mut lines: Vec<&str> =
        network.lines().map(str::trim_end).filter(|line| !line.contains(" cache ")).collect();
    lines.sort_unstable();
    lines.join("\n")
}
