//! The commands that open a chain.

use kube_ipvs_core::model::Family;

use super::ServiceNeed;
use crate::kernel::nft::TableFamily;
use crate::kernel::nft::list::ListedChain;

/// Whether iptables wrote the chain. Its `nft` flavour refuses to read a table with rules that it
/// would not have written.
fn is_iptables(chain: &ListedChain) -> bool {
    matches!(chain.family, TableFamily::Ip | TableFamily::Ip6)
        && chain.table == "filter"
        && matches!(chain.name.as_str(), "INPUT" | "FORWARD")
}

/// The way to add rules to a chain.
pub(super) enum Opening<'a> {
    Iptables(&'a ListedChain),
    Nft(&'a ListedChain),
    /// firewalld's table takes no rules from others. Each reload writes it again.
    Firewalld,
}

impl<'a> Opening<'a> {
    pub(super) fn of(chain: &'a ListedChain) -> Self {
        if is_iptables(chain) {
            Self::Iptables(chain)
        } else if chain.table == "firewalld" {
            Self::Firewalld
        } else {
            Self::Nft(chain)
        }
    }

    pub(super) fn open(&self, need: &ServiceNeed) -> Option<String> {
        Some(match (self, need) {
            (_, ServiceNeed::ClusterIps) => {
                "# each range of service addresses, as destination; or set `carry: all`".to_owned()
            }
            (Self::Firewalld, ServiceNeed::Destination(range)) => {
                let family = if Family::of(range.addr()) == Family::V4 { "ipv4" } else { "ipv6" };
                format!(
                    "firewall-cmd --permanent --add-rich-rule='rule family={family} destination \
                     address={range} accept'; firewall-cmd --reload; or set `carry: all`"
                )
            }
            (Self::Firewalld, _) => "# StrictForwardPorts=no in firewalld.conf".to_owned(),
            (_, ServiceNeed::Answers) => self.rule(
                "-m conntrack --ctstate ESTABLISHED,RELATED",
                "ct state established,related",
            )?,
            (_, ServiceNeed::Translated) => {
                self.rule("-m conntrack --ctstate DNAT", "ct status dnat")?
            }
            (_, ServiceNeed::Destination(range)) => {
                let family = if Family::of(range.addr()) == Family::V4 { "ip" } else { "ip6" };
                self.rule(&format!("-d {range}"), &format!("{family} daddr {range}"))?
            }
        })
    }

    /// The command that adds a rule, in the language of either tool.
    fn rule(&self, iptables: &str, nft: &str) -> Option<String> {
        match self {
            Self::Iptables(chain) => {
                let command =
                    if chain.family == TableFamily::Ip6 { "ip6tables" } else { "iptables" };
                Some(format!("{command} -I {} {iptables} -j ACCEPT", chain.name))
            }
            Self::Nft(chain) => Some(format!("nft insert rule {chain} {nft} accept")),
            Self::Firewalld => None,
        }
    }

    /// Bridged packets pass the forward hook, as IPVS needs. So do the questions of pods on a bridge
    /// for each other's hardware addresses.
    pub(super) fn neighbour_discovery(&self) -> impl Iterator<Item = String> {
        let messages = [("solicitation", "solicit"), ("advertisement", "advert")];
        messages.into_iter().filter_map(|(iptables, nft)| {
            self.rule(
                &format!("-p ipv6-icmp --icmpv6-type neighbour-{iptables}"),
                &format!("icmpv6 type nd-neighbor-{nft}"),
            )
        })
    }
}
