//! What kube-proxy left in the kernel.

use std::fs;

use super::chains::{Chain, ChainFamily};
use super::{Finding, Subject};
use crate::kernel::route::Links;

/// kube-proxy's device in its ipvs mode.
const DEVICE: &str = "kube-ipvs0";
/// kube-proxy's table in its nftables mode.
const NFTABLES_MODE_TABLE: &str = "kube-proxy";
/// Chains that the kubelet makes, or made up to version 1.28.
const KUBELET_CHAINS: [&str; 6] = [
    "KUBE-FIREWALL",
    "KUBE-IPTABLES-HINT",
    "KUBE-KUBELET-CANARY",
    "KUBE-MARK-DROP",
    "KUBE-MARK-MASQ",
    "KUBE-POSTROUTING",
];
/// How many chains are named in full.
const NAMED: usize = 3;

/// The device that holds every service address in kube-proxy's ipvs mode.
pub(super) fn device(_: &Subject) -> Finding {
    match Links::read() {
        Ok(links) => judge_device(links.has(DEVICE)),
        Err(error) => Finding::unknown(error),
    }
}

fn judge_device(there: bool) -> Finding {
    if !there {
        return Finding::ok(format!("no {DEVICE}"));
    }
    Finding::warn(
        format!(
            "{DEVICE} is there: its addresses become the source of this node's own connections"
        ),
        [format!("stop kube-proxy, then: ip link delete {DEVICE}")],
    )
}

/// kube-proxy's rules in its iptables, ipvs and nftables modes.
pub(super) fn rules(_: &Subject) -> Finding {
    let legacy = legacy_tables();
    match super::chains::read() {
        Ok(chains) => judge_rules(&chains, &legacy),
        Err(error) => Finding::unknown(error),
    }
}

/// The iptables-legacy tables in use. Their rules cannot be read over netlink.
fn legacy_tables() -> Vec<String> {
    let read = |path: &str, prefix: &str| -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|table| format!("{prefix} {table}")).collect()
    };
    let mut tables = read("/proc/net/ip_tables_names", "iptables-legacy");
    tables.extend(read("/proc/net/ip6_tables_names", "ip6tables-legacy"));
    tables
}

fn judge_rules(chains: &[Chain], legacy: &[String]) -> Finding {
    let leftovers: Vec<&Chain> = chains.iter().filter(|chain| is_kube_proxys(chain)).collect();
    if !leftovers.is_empty() {
        let mut found: Vec<String> =
            leftovers.iter().take(NAMED).map(ToString::to_string).collect();
        if leftovers.len() > NAMED {
            found.push(format!("and {} more chains", leftovers.len() - NAMED));
        }
        return Finding::fail(
            format!("they would translate service addresses before IPVS: {}", found.join(", ")),
            ["stop kube-proxy, then run its own `kube-proxy --cleanup` on the node, or reboot it"
                .to_owned()],
        );
    }
    if !legacy.is_empty() {
        let mut mend = vec!["see that these print nothing, or reboot the node:".to_owned()];
        mend.extend(legacy.iter().filter_map(|table| {
            let (command, table) = table.split_once(' ')?;
            Some(format!("{command} -t {table} -S | grep -E 'KUBE-(SERVICES|SVC|SEP|NODE)'"))
        }));
        return Finding::warn("legacy iptables is in use; its rules cannot be read here", mend);
    }
    Finding::ok("none")
}

fn is_kube_proxys(chain: &Chain) -> bool {
    let ip = matches!(chain.family, ChainFamily::Ip | ChainFamily::Ip6);
    if !ip {
        return false;
    }
    chain.table == NFTABLES_MODE_TABLE
        || (chain.name.starts_with("KUBE-") && !KUBELET_CHAINS.contains(&chain.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn chain(family: ChainFamily, table: &str, name: &str) -> Chain {
        Chain { family, table: table.to_owned(), name: name.to_owned(), base: None, rules: 1 }
    }

    #[test]
    fn the_kubelets_chains_are_no_leftovers() {
        let kubelet = KUBELET_CHAINS.map(|name| chain(ChainFamily::Ip, "mangle", name));
        assert_eq!(judge_rules(&kubelet, &[]), Finding::ok("none"));
    }

    #[test]
    fn each_mode_leaves_traces() {
        for chain in [
            chain(ChainFamily::Ip, "nat", "KUBE-SERVICES"),
            chain(ChainFamily::Ip6, "filter", "KUBE-NODE-PORT"),
            chain(ChainFamily::Ip, "kube-proxy", "services"),
        ] {
            assert_eq!(judge_rules(&[chain], &[]).verdict, Verdict::Fail);
        }
        assert_eq!(judge_device(true).verdict, Verdict::Warn);
    }

    #[test]
    fn many_chains_stay_on_one_line() {
        let chains: Vec<Chain> =
            (0..500).map(|n| chain(ChainFamily::Ip, "nat", &format!("KUBE-SVC-{n}"))).collect();
        assert!(judge_rules(&chains, &[]).found.ends_with("and 497 more chains"));
    }

    #[test]
    fn legacy_tables_are_named_with_their_command() {
        let finding = judge_rules(&[], &["iptables-legacy nat".to_owned()]);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.mend[1].starts_with("iptables-legacy -t nat -S"));
    }
}
