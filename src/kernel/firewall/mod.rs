//! Other programs' firewalls that would drop service traffic.
//!
//! An accept in one table does not overrule a drop in another, so nothing that this program
//! writes can help: the firewall itself must let the traffic in. The first packet of a connection
//! passes the input hook with the address of a pool, before IPVS. What connection tracking carries,
//! and answers of endpoints, pass the forward hook; an answer passes the input hook when the client is a
//! process of the node.
//!
//! HookPoint chains are read rule by rule. Chains that they lead to are not: what these let in is in doubt.

mod opening;
mod rule;

use std::fmt;

use ipnet::IpNet;
use kube_ipvs_core::model::{Carry, Family, NAME};
use netlink_ipvs::{KernelError, Socket, Subsystem};
use opening::Opening;
use rule::ForeignRule;

use super::chains::{self, ForeignChain, Hook, HookPoint};

/// A chain of somebody else that drops what services need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    chain: ForeignChain,
    hook: Hook,
    missing: Vec<ServiceNeed>,
    /// Whether nothing else that the chain has could let it in.
    pub is_certain: bool,
}

/// What a chain has to let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ServiceNeed {
    /// Answers, and what else belongs to connections that are established.
    Answers,
    /// What came through a front end. In an input chain it carries the address of a pool by now; in a
    /// forward chain it is what follows before there is an answer.
    Translated,
    /// Packets to these addresses of pools.
    Destination(IpNet),
    /// Packets to ClusterIPs, of which no range is known.
    ClusterIps,
}

/// Looks for base chains of others that drop what services need. The ranges are those of service
/// addresses, as far as they are known.
///
/// # Errors
///
/// If nf_tables is not there or the process lacks CAP_NET_ADMIN.
pub fn obstacles(ranges: &[IpNet], carry: &Carry) -> Result<Vec<Obstacle>, KernelError> {
    obstacles_over(&mut Socket::open(Subsystem::Netfilter)?, ranges, carry)
}

/// The same over a socket for nf_tables.
///
/// # Errors
///
/// See [`obstacles`].
pub fn obstacles_over(
    socket: &mut Socket,
    ranges: &[IpNet],
    carry: &Carry,
) -> Result<Vec<Obstacle>, KernelError> {
    let mut found = Vec::new();
    for chain in chains::read(socket)? {
        let Some(base) = base_of_others(&chain) else { continue };
        let rules = rule::read(socket, &chain)?;
        found.extend(judge(chain, base, &rules, ranges, carry));
    }
    Ok(found)
}

/// What a base chain is, if it is somebody else's and filters what services need.
fn base_of_others(chain: &ForeignChain) -> Option<HookPoint> {
    let base = chain.base.filter(|base| base.filters && base.hook != Hook::Other)?;
    (!chain.family.families().is_empty() && chain.table != NAME).then_some(base)
}

fn judge(
    chain: ForeignChain,
    base: HookPoint,
    rules: &[ForeignRule],
    ranges: &[IpNet],
    carry: &Carry,
) -> Option<Obstacle> {
    let HookPoint { hook, drops, .. } = base;
    let end = rules
        .iter()
        .position(|rule| matches!(rule, ForeignRule::AcceptsAll | ForeignRule::DropsAll));
    let (before, drops) = match end.and_then(|at| Some((rules.get(..at)?, rules.get(at)?))) {
        Some((before, end)) => (before, *end == ForeignRule::DropsAll),
        None => (rules, drops),
    };
    let is_let_in = |need: &ServiceNeed| before.iter().any(|rule| rule.lets_in(need));
    let mut missing = needs(&chain, hook, ranges, carry);
    missing.retain(|need| !is_let_in(need));
    let is_certain = !before.contains(&ForeignRule::InDoubt);
    (drops && !missing.is_empty()).then_some(Obstacle { chain, hook, missing, is_certain })
}

fn needs(chain: &ForeignChain, hook: Hook, ranges: &[IpNet], carry: &Carry) -> Vec<ServiceNeed> {
    let mut needs = vec![ServiceNeed::Answers, ServiceNeed::Translated];
    if hook == Hook::Input && *carry == Carry::FrontEnds {
        let families = chain.family.families();
        let fitting = ranges.iter().filter(|range| families.contains(&Family::of(range.addr())));
        needs.extend(fitting.map(|range| ServiceNeed::Destination(*range)));
        if ranges.is_empty() {
            needs.push(ServiceNeed::ClusterIps);
        }
    }
    needs
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} drops what it does not know, and has no rule for ", self.chain)?;
        let mut words: Vec<_> = self.missing.iter().map(ServiceNeed::words).collect();
        words.dedup();
        f.write_str(&words.join(", "))
    }
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

impl Obstacle {
    /// The commands that open the chain.
    #[must_use]
    pub fn mend(&self) -> Vec<String> {
        let chain = &self.chain;
        let opening = Opening::of(chain);
        let mut rules: Vec<_> = self.missing.iter().map(|need| opening.open(need)).collect();
        let sees_bridge =
            self.hook == Hook::Forward && chain.family.families().contains(&Family::V6);
        if sees_bridge && self.missing.contains(&ServiceNeed::Answers) {
            rules.extend(opening.neighbour_discovery());
        }
        rules.dedup();
        rules
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernel::chains::ChainFamily;

    fn obstacle(
        (family, table, name): (ChainFamily, &str, &str),
        hook: Hook,
        rules: &[ForeignRule],
        carry: &Carry,
    ) -> Option<Obstacle> {
        let base = HookPoint { hook, filters: true, drops: true };
        let (table, name) = (table.to_owned(), name.to_owned());
        let chain = ForeignChain { family, table, name, base: Some(base) };
        let ranges = ["10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap()];
        judge(chain, base, rules, &ranges, carry)
    }

    const DOCKER: (ChainFamily, &str, &str) = (ChainFamily::Ip, "filter", "FORWARD");
    const FIREWALLD: (ChainFamily, &str, &str) = (ChainFamily::Inet, "firewalld", "filter_INPUT");

    #[test]
    fn dockers_forward_policy_is_opened_for_carried_packets() {
        let found =
            obstacle(DOCKER, Hook::Forward, &[ForeignRule::InDoubt], &Carry::FrontEnds).unwrap();
        assert!(!found.is_certain);
        let mend = [
            "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
        ];
        assert_eq!(found.mend(), mend);
        assert!(obstacle(DOCKER, Hook::Forward, &[], &Carry::FrontEnds).unwrap().is_certain);
    }

    #[test]
    fn a_forward_policy_lets_pods_on_a_bridge_find_each_other() {
        let mend =
            |chain| obstacle(chain, Hook::Forward, &[], &Carry::All).unwrap().mend().join("\n");
        let inet = mend((ChainFamily::Inet, "fw", "forward"));
        let rule = "nft insert rule inet fw forward icmpv6 type nd-neighbor-solicit accept";
        assert!(inet.contains(rule), "{inet}");
        let ip6 = mend((ChainFamily::Ip6, "filter", "FORWARD"));
        let rule =
            "ip6tables -I FORWARD -p ipv6-icmp --icmpv6-type neighbour-advertisement -j ACCEPT";
        assert!(ip6.contains(rule), "{ip6}");
    }

    #[test]
    fn an_input_policy_is_opened_per_range_of_its_families() {
        let mend = |chain| obstacle(chain, Hook::Input, &[], &Carry::FrontEnds).unwrap().mend();
        let inet = mend((ChainFamily::Inet, "filter", "input"));
        let expected = "nft insert rule inet filter input ip6 daddr fd00::/112 accept".to_owned();
        assert!(inet.contains(&expected), "{inet:?}");
        let ip6 = mend((ChainFamily::Ip6, "filter", "INPUT"));
        assert!(ip6.contains(&"ip6tables -I INPUT -d fd00::/112 -j ACCEPT".to_owned()));
        assert!(!ip6.iter().any(|line| line.contains("10.96")));
    }

    #[test]
    fn firewalld_stands_in_the_way_of_cluster_ips_that_are_not_carried() {
        let accepts = |established, translated| ForeignRule::Accepts { established, translated };
        let mut rules = vec![accepts(true, false), accepts(false, true), ForeignRule::InDoubt];
        rules.push(ForeignRule::DropsAll);
        let found = obstacle(FIREWALLD, Hook::Input, &rules, &Carry::FrontEnds).unwrap();
        assert_eq!(
            found.to_string(),
            "inet firewalld filter_INPUT drops what it does not know, and has no rule for ClusterIPs"
        );
        assert!(found.mend()[0].starts_with("firewall-cmd "), "{found:?}");
        assert_eq!(obstacle(FIREWALLD, Hook::Input, &rules, &Carry::All), None);
        assert_eq!(obstacle(FIREWALLD, Hook::Forward, &rules, &Carry::FrontEnds), None);
        // What comes after the end of a chain is never reached.
        rules.rotate_right(1);
        assert!(obstacle(FIREWALLD, Hook::Input, &rules, &Carry::All).is_some());
        assert_eq!(
            obstacle(FIREWALLD, Hook::Input, &[ForeignRule::AcceptsAll], &Carry::FrontEnds),
            None
        );
    }

    #[test]
    fn our_own_table_and_other_hooks_do_not_count() {
        let is_asked = |family, table: &str, hook, filters| {
            let (table, name) = (table.to_owned(), "chain".to_owned());
            let base = Some(HookPoint { hook, filters, drops: true });
            base_of_others(&ForeignChain { family, table, name, base }).is_some()
        };
        assert!(is_asked(ChainFamily::Ip, "filter", Hook::Input, true));
        assert!(!is_asked(ChainFamily::Ip, NAME, Hook::Input, true));
        assert!(!is_asked(ChainFamily::Inet, "filter", Hook::Other, true));
        assert!(!is_asked(ChainFamily::Other, "filter", Hook::Forward, true));
        assert!(!is_asked(ChainFamily::Ip, "nat", Hook::Input, false));
    }
}
