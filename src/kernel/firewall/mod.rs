//! Other programs' firewalls that drop traffic of Services.
//!
//! An accept in one table does not overrule a drop in another, so no rule of this program can help:
//! the firewall itself must let the traffic in. The first packet of a connection passes the input
//! hook with the address of a pool, before IPVS. Packets that connection tracking carries, and
//! answers of endpoints, pass the forward hook. An answer passes the input hook if the client is a
//! process of the node.
//!
//! Base chains are read rule by rule. Chains that they lead to are not: whether these let the
//! traffic in is in doubt.

mod opening;
mod rule;

use ipnet::IpNet;
use kube_ipvs_core::model::{Carry, Family, NAME};
use netlink_ipvs::{KernelError, Socket, Subsystem};
use rule::ForeignRule;

use super::nft::BaseChain;
use super::nft::list::{self, ListedChain};

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

/// A chain of another program that drops what services need, or all such chains of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    pub found: String,
    /// The commands that open the chain, and options of other programs after `#`.
    pub mend: Vec<String>,
    /// Set if no other rule of the chain can let the traffic in.
    pub is_certain: bool,
}

/// Traffic that a chain must let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ServiceNeed {
    /// Replies, and other packets of established connections.
    Answers,
    /// Packets that came through a front end. In an input chain they carry the address of a pool;
    /// in a forward chain they are the packets before the first answer.
    Translated,
    /// Packets to these addresses of pools.
    Destination(IpNet),
    /// Packets to ClusterIPs of an unknown range.
    ClusterIps,
}

/// Reports what base chains of other programs drop that services need; `None` if they let it in.
/// The ranges are those of service addresses; without any, they are unknown.
///
/// # Errors
///
/// If the kernel has no nf_tables or the process lacks CAP_NET_ADMIN.
pub fn report(ranges: &[IpNet], carry: &Carry) -> Result<Option<Obstacle>, KernelError> {
    let obstacles = obstacles_over(&mut Socket::open(Subsystem::Netfilter)?, ranges, carry)?;
    Ok(obstacles.into_iter().reduce(|mut all, next| {
        all.found = format!("{}; {}", all.found, next.found);
        all.mend.extend(next.mend);
        all.is_certain |= next.is_certain;
        all
    }))
}

/// Lists the chains that drop what services need, over a socket for nf_tables.
///
/// # Errors
///
/// As [`report`].
pub fn obstacles_over(
    socket: &mut Socket,
    ranges: &[IpNet],
    carry: &Carry,
) -> Result<Vec<Obstacle>, KernelError> {
    let mut found = Vec::new();
    for chain in list::chains(socket)?.into_iter().filter(may_drop) {
        let rules =
            list::rules(socket, chain.family, Some(&chain), |rule| Some(ForeignRule::of(rule)))?;
        found.extend(judge(&chain, &rules, ranges, carry));
    }
    Ok(found)
}

/// Returns whether a chain belongs to another program and filters service traffic.
fn may_drop(chain: &ListedChain) -> bool {
    let filters = |base: BaseChain| base.kind == "filter" && matches!(base.hook, INPUT | FORWARD);
    !chain.family.families().is_empty() && chain.table != NAME && chain.base.is_some_and(filters)
}

fn judge(
    chain: &ListedChain,
    rules: &[ForeignRule],
    ranges: &[IpNet],
    carry: &Carry,
) -> Option<Obstacle> {
    let end = rules
        .iter()
        .position(|rule| matches!(rule, ForeignRule::AcceptsAll | ForeignRule::DropsAll));
    let (before, drops) = match end.and_then(|at| Some((rules.get(..at)?, rules.get(at)?))) {
        Some((before, end)) => (before, *end == ForeignRule::DropsAll),
        None => (rules, chain.drops),
    };
    let is_let_in = |need: &ServiceNeed| before.iter().any(|rule| rule.lets_in(need));
    let mut missing = needs(chain, ranges, carry);
    missing.retain(|need| !is_let_in(need));
    if !drops || missing.is_empty() {
        return None;
    }
    let mut words: Vec<_> = missing.iter().map(ServiceNeed::words).collect();
    words.dedup();
    let words = words.join(", ");
    Some(Obstacle {
        found: format!("{chain} drops what it does not know, and has no rule for {words}"),
        mend: opening::commands(chain, &missing),
        is_certain: !before.contains(&ForeignRule::InDoubt),
    })
}

fn is_at(chain: &ListedChain, hook: u32) -> bool {
    chain.base.is_some_and(|base| base.hook == hook)
}

fn needs(chain: &ListedChain, ranges: &[IpNet], carry: &Carry) -> Vec<ServiceNeed> {
    let mut needs = vec![ServiceNeed::Answers, ServiceNeed::Translated];
    if is_at(chain, INPUT) && *carry == Carry::FrontEnds {
        let families = chain.family.families();
        let fitting = ranges.iter().filter(|range| families.contains(&Family::of(range.addr())));
        needs.extend(fitting.map(|range| ServiceNeed::Destination(*range)));
        if ranges.is_empty() {
            needs.push(ServiceNeed::ClusterIps);
        }
    }
    needs
}

impl ServiceNeed {
    fn words(&self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Translated => "connections through front ends",
            Self::Destination(_) | Self::ClusterIps => "ClusterIPs",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::nft::TableFamily;

    fn obstacle(
        (family, table, name): (TableFamily, &str, &str),
        hook: u32,
        rules: &[ForeignRule],
        carry: &Carry,
    ) -> Option<Obstacle> {
        let base = Some(BaseChain { kind: "filter", hook, priority: 0 });
        let (table, name) = (table.to_owned(), name.to_owned());
        let chain = ListedChain { family, table, name, base, drops: true };
        let ranges = ["10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap()];
        judge(&chain, rules, &ranges, carry)
    }

    const DOCKER: (TableFamily, &str, &str) = (TableFamily::Ip, "filter", "FORWARD");
    const FIREWALLD: (TableFamily, &str, &str) = (TableFamily::Inet, "firewalld", "filter_INPUT");

    #[test]
    fn dockers_forward_policy_is_opened_for_carried_packets() {
        let found = obstacle(DOCKER, FORWARD, &[ForeignRule::InDoubt], &Carry::FrontEnds).unwrap();
        assert!(!found.is_certain);
        let mend = [
            "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
        ];
        assert_eq!(found.mend, mend);
        assert!(obstacle(DOCKER, FORWARD, &[], &Carry::FrontEnds).unwrap().is_certain);
    }

    #[test]
    fn a_forward_policy_lets_pods_on_a_bridge_find_each_other() {
        let mend = |chain| obstacle(chain, FORWARD, &[], &Carry::All).unwrap().mend.join("\n");
        let inet = mend((TableFamily::Inet, "fw", "forward"));
        let rule = "nft insert rule inet fw forward icmpv6 type nd-neighbor-solicit accept";
        assert!(inet.contains(rule), "{inet}");
        let ip6 = mend((TableFamily::Ip6, "filter", "FORWARD"));
        let rule =
            "ip6tables -I FORWARD -p ipv6-icmp --icmpv6-type neighbour-advertisement -j ACCEPT";
        assert!(ip6.contains(rule), "{ip6}");
    }

    #[test]
    fn an_input_policy_is_opened_per_range_of_its_families() {
        let mend = |chain| obstacle(chain, INPUT, &[], &Carry::FrontEnds).unwrap().mend;
        let inet = mend((TableFamily::Inet, "filter", "input"));
        let expected = "nft insert rule inet filter input ip6 daddr fd00::/112 accept".to_owned();
        assert!(inet.contains(&expected), "{inet:?}");
        let ip6 = mend((TableFamily::Ip6, "filter", "INPUT"));
        assert!(ip6.contains(&"ip6tables -I INPUT -d fd00::/112 -j ACCEPT".to_owned()));
        assert!(!ip6.iter().any(|line| line.contains("10.96")));
    }

    #[test]
    fn firewalld_stands_in_the_way_of_cluster_ips_that_are_not_carried() {
        let accepts = |established, translated| ForeignRule::Accepts { established, translated };
        let mut rules = vec![accepts(true, false), accepts(false, true), ForeignRule::InDoubt];
        rules.push(ForeignRule::DropsAll);
        let found = obstacle(FIREWALLD, INPUT, &rules, &Carry::FrontEnds).unwrap();
        assert_eq!(
            found.found,
            "inet firewalld filter_INPUT drops what it does not know, and has no rule for ClusterIPs"
        );
        assert!(found.mend[0].starts_with("firewall-cmd "), "{found:?}");
        let forward = obstacle(FIREWALLD, FORWARD, &[], &Carry::FrontEnds).unwrap();
        assert_eq!(forward.mend, ["# StrictForwardPorts=no in firewalld.conf"]);
        assert_eq!(obstacle(FIREWALLD, INPUT, &rules, &Carry::All), None);
        assert_eq!(obstacle(FIREWALLD, FORWARD, &rules, &Carry::FrontEnds), None);
        // What comes after the end of a chain is never reached.
        rules.rotate_right(1);
        assert!(obstacle(FIREWALLD, INPUT, &rules, &Carry::All).is_some());
        assert_eq!(obstacle(FIREWALLD, INPUT, &[ForeignRule::AcceptsAll], &Carry::FrontEnds), None);
    }

    #[test]
    fn our_own_table_and_other_hooks_do_not_count() {
        let is_asked = |family, table: &str, hook, kind| {
            let (table, name) = (table.to_owned(), "chain".to_owned());
            let base = Some(BaseChain { kind, hook, priority: 0 });
            may_drop(&ListedChain { family, table, name, base, drops: true })
        };
        assert!(is_asked(TableFamily::Ip, "filter", INPUT, "filter"));
        assert!(!is_asked(TableFamily::Ip, NAME, INPUT, "filter"));
        assert!(!is_asked(TableFamily::Inet, "filter", 0, "filter"));
        assert!(!is_asked(TableFamily::Other(7), "filter", FORWARD, "filter"));
        assert!(!is_asked(TableFamily::Ip, "nat", INPUT, "nat"));
    }
}
