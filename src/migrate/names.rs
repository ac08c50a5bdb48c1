//! The names of kube-proxy's objects.
//!
//! Other programs use similar names: the kubelet has chains `KUBE-FIREWALL` and `KUBE-MARK-MASQ`,
//! kube-router has chains `KUBE-ROUTER-…` and `KUBE-POD-FW-…`, and sets `KUBE-SRC-…`. So
//! kube-proxy's objects are recognised by their whole names, or by a prefix that no other program
//! uses.

use crate::kernel::nft::TableFamily;
use crate::kernel::nft::list::ListedChain;

/// The table of the nftables mode.
pub(super) const TABLE: &str = "kube-proxy";
/// A kubelet before 1.29 has this chain, too, and adds it again.
const SHARED_CHAIN: &str = "KUBE-POSTROUTING";

const CHAINS: [&str; 12] = [
    SHARED_CHAIN,
    // The ipvs mode's.
    "KUBE-SERVICES",
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    // The iptables mode's.
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-CANARY",
];
/// The prefixes of the iptables mode's chains of Services and endpoints.
const CHAIN_BEGINNINGS: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-"];
/// The tables of `iptables-nft` that kube-proxy writes to.
const TABLES: [&str; 3] = ["nat", "filter", "mangle"];

/// Sets of the ipvs mode, without the prefix of the family.
const SETS: [&str; 16] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-SOURCE-CIDR",
    "LOAD-BALANCER-SOURCE-IP",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
];
const ADDRESSES_SET: &str = "IPVS-IPS";
/// The prefixes of IPv4 and IPv6 sets.
const SET_BEGINNINGS: [&str; 2] = ["KUBE-", "KUBE-6-"];
/// `IPSET_MAXNAMELEN` without the terminating zero: kube-proxy truncates names to it.
const LONGEST_SET_NAME: usize = 31;

/// Returns whether the chain is kube-proxy's, in a table of `iptables-nft`.
pub(super) fn is_chain(chain: &ListedChain) -> bool {
    is_in_iptables(chain.family, &chain.table)
        && (CHAINS.contains(&chain.name.as_str())
            || CHAIN_BEGINNINGS.iter().any(|beginning| chain.name.starts_with(beginning)))
}

/// Returns whether the chain shows that kube-proxy ran on this node.
pub(crate) fn is_trace(chain: &ListedChain) -> bool {
    (is_chain(chain) && chain.name != SHARED_CHAIN) || is_of_table(chain)
}

/// Returns whether the chain is in the table of the nftables mode.
pub(super) fn is_of_table(chain: &ListedChain) -> bool {
    matches!(chain.family, TableFamily::Ip | TableFamily::Ip6) && chain.table == TABLE
}

fn is_in_iptables(family: TableFamily, table: &str) -> bool {
    matches!(family, TableFamily::Ip | TableFamily::Ip6) && TABLES.contains(&table)
}

pub(super) fn sets() -> impl Iterator<Item = String> {
    SET_BEGINNINGS
        .into_iter()
        .flat_map(|beginning| {
            SETS.iter().chain([&ADDRESSES_SET]).map(move |name| (beginning, name))
        })
        .map(|(beginning, name)| {
            let mut name = format!("{beginning}{name}");
            name.truncate(LONGEST_SET_NAME);
            name
        })
}

pub(super) fn node_port_sets() -> impl Iterator<Item = String> {
    sets().filter(|name| name.contains("-NODE-PORT-") && !name.contains("HEALTH-CHECK"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: TableFamily, table: &str, name: &str) -> ListedChain {
        ListedChain {
            family,
            table: table.to_owned(),
            name: name.to_owned(),
            base: None,
            drops: false,
        }
    }

    #[test]
    fn others_have_names_alike() {
        for name in [
            "KUBE-FIREWALL",
            "KUBE-IPTABLES-HINT",
            "KUBE-KUBELET-CANARY",
            "KUBE-MARK-DROP",
            "KUBE-MARK-MASQ",
            "KUBE-ROUTER-SERVICES",
            "KUBE-POD-FW-ABC",
            "KUBE-NWPLCY-ABC",
        ] {
            let chain = chain(TableFamily::Ip, "filter", name);
            assert!(!is_chain(&chain) && !is_trace(&chain), "{name}");
        }
        assert!(!is_chain(&chain(TableFamily::Inet, "nat", "KUBE-SERVICES")));
        assert!(!is_chain(&chain(TableFamily::Ip, "mine", "KUBE-SERVICES")));
    }

    #[test]
    fn each_mode_leaves_traces() {
        for chain in [
            chain(TableFamily::Ip, "nat", "KUBE-SERVICES"),
            chain(TableFamily::Ip6, "filter", "KUBE-NODE-PORT"),
            chain(TableFamily::Ip, "nat", "KUBE-SEP-ABC"),
            chain(TableFamily::Ip, "kube-proxy", "services"),
        ] {
            assert!(is_trace(&chain), "{chain}");
        }
        let shared = chain(TableFamily::Ip, "nat", SHARED_CHAIN);
        assert!(is_chain(&shared) && !is_trace(&shared));
    }

    #[test]
    fn names_of_sets_are_cut_as_kube_proxy_cuts_them() {
        let all: Vec<String> = sets().collect();
        assert!(all.contains(&"KUBE-IPVS-IPS".to_owned()));
        assert!(all.contains(&"KUBE-6-LOAD-BALANCER-SOURCE-CID".to_owned()));
        assert!(all.iter().all(|name| name.len() <= LONGEST_SET_NAME));
        assert_eq!(node_port_sets().count(), 12);
    }
}
