//! The commands that open a chain.

use kube_ipvs_core::model::Family;

use super::{FORWARD, ServiceNeed, is_at};
use crate::kernel::nft::TableFamily;
use crate::kernel::nft::list::ListedChain;

/// Returns the commands that make the chain let in what it does not, and options of other programs
/// after `#`.
pub(super) fn commands(chain: &ListedChain, missing: &[ServiceNeed]) -> Vec<String> {
    let mut commands: Vec<_> = missing.iter().filter_map(|need| command(chain, need)).collect();
    let sees_bridge = is_at(chain, FORWARD) && chain.family.families().contains(&Family::V6);
    if sees_bridge && missing.contains(&ServiceNeed::Answers) {
        commands.extend(neighbour_discovery(chain));
    }
    commands.dedup();
    commands
}

fn command(chain: &ListedChain, need: &ServiceNeed) -> Option<String> {
    match need {
        ServiceNeed::ClusterIps => Some(
            "# each range of service addresses, as destination; or set `carry: all`".to_owned(),
        ),
        ServiceNeed::Destination(range) => {
            let is_v4 = Family::of(range.addr()) == Family::V4;
            if is_firewalld(chain) {
                let family = if is_v4 { "ipv4" } else { "ipv6" };
                return Some(format!(
                    "firewall-cmd --permanent --add-rich-rule='rule family={family} destination \
                     address={range} accept'; firewall-cmd --reload; or set `carry: all`"
                ));
            }
            let family = if is_v4 { "ip" } else { "ip6" };
            add_rule(chain, &format!("-d {range}"), &format!("{family} daddr {range}"))
        }
        _ if is_firewalld(chain) => Some("# StrictForwardPorts=no in firewalld.conf".to_owned()),
        ServiceNeed::Answers => add_rule(
            chain,
            "-m conntrack --ctstate ESTABLISHED,RELATED",
            "ct state established,related",
        ),
        ServiceNeed::Translated => add_rule(chain, "-m conntrack --ctstate DNAT", "ct status dnat"),
    }
}

/// Bridged packets pass the forward hook, as IPVS needs. So does the neighbour discovery of pods on
/// a bridge.
fn neighbour_discovery(chain: &ListedChain) -> impl Iterator<Item = String> {
    let messages = [("solicitation", "solicit"), ("advertisement", "advert")];
    messages.into_iter().filter_map(|(iptables, nft)| {
        add_rule(
            chain,
            &format!("-p ipv6-icmp --icmpv6-type neighbour-{iptables}"),
            &format!("icmpv6 type nd-neighbor-{nft}"),
        )
    })
}

/// Returns the command that adds a rule, given in the language of either tool.
fn add_rule(chain: &ListedChain, iptables: &str, nft: &str) -> Option<String> {
    if is_firewalld(chain) {
        return None;
    }
    if !is_iptables(chain) {
        return Some(format!("nft insert rule {chain} {nft} accept"));
    }
    let command = if chain.family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
    Some(format!("{command} -I {} {iptables} -j ACCEPT", chain.name))
}

/// firewalld's table accepts no rules of others, and each reload writes it again.
fn is_firewalld(chain: &ListedChain) -> bool {
    chain.table == "firewalld"
}

/// Returns whether iptables wrote the chain. Its `nft` flavour refuses to read a table with rules that
/// it would not have written.
fn is_iptables(chain: &ListedChain) -> bool {
    matches!(chain.family, TableFamily::Ip | TableFamily::Ip6)
        && chain.table == "filter"
        && matches!(chain.name.as_str(), "INPUT" | "FORWARD")
}
