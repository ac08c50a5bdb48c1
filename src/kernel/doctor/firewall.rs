//! Other programs' firewalls that would drop service traffic.
//!
//! An accept in one table does not overrule a drop in another, so nothing that this program
//! writes can help: the firewall itself must let the traffic in. Clients' packets pass the input
//! hook with the address of a pool, before IPVS; replies of endpoints pass the forward hook, or the
//! input hook when the client is a process of the node.

use ipnet::IpNet;

use super::{Finding, Subject};
use crate::kernel::chains::{self, Base, Chain, ChainFamily, Hook};
use crate::model::{Family, NAME};

/// Looks for base chains of others that drop what they do not know.
pub(super) fn policies(subject: &Subject) -> Finding {
    match chains::read() {
        Ok(chains) => judge(&chains, &subject.service_ranges),
        Err(error) => Finding::unknown(error),
    }
}

fn judge(chains: &[Chain], ranges: &[IpNet]) -> Finding {
    let dropping: Vec<(&Chain, Hook)> =
        chains.iter().filter_map(|chain| Some((chain, dropping_hook(chain)?))).collect();
    if dropping.is_empty() {
        return Finding::ok("no chain of others drops by policy");
    }
    let found: Vec<String> = dropping
        .iter()
        .map(|(chain, _)| format!("{chain} (policy drop, {} rules)", chain.rules))
        .collect();
    let found = found.join(", ");
    let mut mend = vec!["let service traffic in, unless a rule there already does:".to_owned()];
    mend.extend(dropping.iter().flat_map(|(chain, hook)| rules(chain, *hook, ranges)));
    // Without any rule it is certain; with some, only their author knows.
    if dropping.iter().any(|(chain, _)| chain.rules == 0) {
        Finding::fail(found, mend)
    } else {
        Finding::warn(found, mend)
    }
}

/// The hook at which a chain of somebody else drops by policy what services need.
fn dropping_hook(chain: &Chain) -> Option<Hook> {
    let Some(Base { hook: hook @ (Hook::Input | Hook::Forward), drops: true }) = chain.base else {
        return None;
    };
    let ip = matches!(chain.family, ChainFamily::Ip | ChainFamily::Ip6 | ChainFamily::Inet);
    (ip && chain.table != NAME).then_some(hook)
}

/// The commands that open a chain.
fn rules(chain: &Chain, hook: Hook, ranges: &[IpNet]) -> Vec<String> {
    let opening = if is_iptables(chain) { Opening::Iptables(chain) } else { Opening::Nft(chain) };
    let families = chain.family.families();
    let mut rules = vec![opening.replies()];
    if hook == Hook::Forward && families.contains(&Family::V6) {
        rules.extend(opening.neighbour_discovery());
    }
    if hook == Hook::Input {
        let fitting = ranges.iter().filter(|range| families.contains(&Family::of(range.addr())));
        rules.extend(fitting.map(|range| opening.destination(range)));
        if ranges.is_empty() {
            rules.push("# and the same for each range of service addresses".to_owned());
        }
        rules.push(opening.translated());
    }
    rules
}

/// Whether iptables wrote the chain. Its `nft` flavour refuses to read a table with rules that it
/// would not have written.
fn is_iptables(chain: &Chain) -> bool {
    matches!(chain.family, ChainFamily::Ip | ChainFamily::Ip6)
        && chain.table == "filter"
        && matches!(chain.name.as_str(), "INPUT" | "FORWARD")
}

/// How rules are added to a chain.
enum Opening<'a> {
    Iptables(&'a Chain),
    Nft(&'a Chain),
}

impl Opening<'_> {
    fn rule(&self, iptables: &str, nft: &str) -> String {
        match self {
            Self::Iptables(chain) => {
                let command =
                    if chain.family == ChainFamily::Ip6 { "ip6tables" } else { "iptables" };
                format!("{command} -I {} {iptables} -j ACCEPT", chain.name)
            }
            Self::Nft(chain) => format!("nft insert rule {chain} {nft} accept"),
        }
    }

    fn replies(&self) -> String {
        self.rule("-m conntrack --ctstate ESTABLISHED,RELATED", "ct state established,related")
    }

    /// Where bridged packets pass the forward hook, which IPVS needs, so do pods' questions for
    /// each other's hardware addresses.
    fn neighbour_discovery(&self) -> [String; 2] {
        [("solicitation", "solicit"), ("advertisement", "advert")].map(|(iptables, nft)| {
            self.rule(
                &format!("-p ipv6-icmp --icmpv6-type neighbour-{iptables}"),
                &format!("icmpv6 type nd-neighbor-{nft}"),
            )
        })
    }

    fn destination(&self, range: &IpNet) -> String {
        let family = if Family::of(range.addr()) == Family::V4 { "ip" } else { "ip6" };
        self.rule(&format!("-d {range}"), &format!("{family} daddr {range}"))
    }

    /// What came through a front end: it carries the address of a pool by now.
    fn translated(&self) -> String {
        self.rule("-m conntrack --ctstate DNAT", "ct status dnat")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn base(family: ChainFamily, table: &str, name: &str, hook: Hook, rules: u32) -> Chain {
        let (table, name) = (table.to_owned(), name.to_owned());
        Chain { family, table, name, base: Some(Base { hook, drops: true }), rules }
    }

    #[test]
    fn dockers_forward_policy_is_told_with_the_rule() {
        let chain = base(ChainFamily::Ip, "filter", "FORWARD", Hook::Forward, 4);
        let finding = judge(&[chain], &[]);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert_eq!(finding.found, "ip filter FORWARD (policy drop, 4 rules)");
        assert_eq!(
            finding.mend[1],
            "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        );
        assert_eq!(finding.mend.len(), 2);
    }

    #[test]
    fn a_forward_policy_lets_pods_on_a_bridge_find_each_other() {
        let mend = |family, table, name| {
            judge(&[base(family, table, name, Hook::Forward, 0)], &[]).mend.join("\n")
        };
        let inet = mend(ChainFamily::Inet, "fw", "forward");
        let rule = "nft insert rule inet fw forward icmpv6 type nd-neighbor-solicit accept";
        assert!(inet.contains(rule), "{inet}");
        let ip6 = mend(ChainFamily::Ip6, "filter", "FORWARD");
        let rule =
            "ip6tables -I FORWARD -p ipv6-icmp --icmpv6-type neighbour-advertisement -j ACCEPT";
        assert!(ip6.contains(rule), "{ip6}");
    }

    #[test]
    fn an_input_policy_is_opened_per_range_of_its_families() {
        let ranges = ["10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap()];
        let inet = base(ChainFamily::Inet, "filter", "input", Hook::Input, 0);
        let finding = judge(&[inet], &ranges);
        assert_eq!(finding.verdict, Verdict::Fail);
        let expected = "nft insert rule inet filter input ip6 daddr fd00::/112 accept".to_owned();
        assert!(finding.mend.contains(&expected), "{:?}", finding.mend);
        let ip6 = base(ChainFamily::Ip6, "filter", "INPUT", Hook::Input, 1);
        let mend = judge(&[ip6], &ranges).mend;
        assert!(mend.contains(&"ip6tables -I INPUT -d fd00::/112 -j ACCEPT".to_owned()));
        assert!(!mend.iter().any(|line| line.contains("10.96")));
    }

    #[test]
    fn our_own_table_and_other_hooks_do_not_count() {
        let ours = base(ChainFamily::Ip, NAME, "input", Hook::Input, 3);
        let output = base(ChainFamily::Inet, "filter", "output", Hook::Other, 0);
        let bridge = base(ChainFamily::Other, "filter", "forward", Hook::Forward, 0);
        assert_eq!(judge(&[ours, output, bridge], &[]).verdict, Verdict::Ok);
    }
}
