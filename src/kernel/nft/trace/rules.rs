//! What the rules say that a packet has met.

use kube_ipvs_core::model::NAME;
use netlink_ipvs::{KernelError, Socket};

use super::event::RulePlace;
use crate::kernel::nft::constants::expression;
use crate::kernel::nft::list::{self, ListedChain, ListedRule};
use crate::kernel::nft::ruleset;
use crate::kernel::nft::table::TableFamily;

/// What is known of a rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RuleText {
    /// The rule as `ruleset.nft` has it. Rules of other programs have none.
    pub(crate) text: Option<String>,
    /// Whether the client is told that the packet is dropped.
    pub(crate) rejects: bool,
}

/// The chains of every table at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChainIndex(Vec<ListedChain>);

impl ChainIndex {
    pub(super) fn read(socket: &mut Socket) -> Result<Self, KernelError> {
        Ok(Self(list::chains(socket)?))
    }

    pub(crate) fn new(chains: Vec<ListedChain>) -> Self {
        Self(chains)
    }

    pub(super) fn families_of(&self, table: &str) -> Vec<TableFamily> {
        let of_table = self.0.iter().filter(|chain| chain.table == table);
        let mut families: Vec<_> = of_table.map(|chain| chain.family).collect();
        families.dedup();
        families
    }

    fn find(&self, at: &RulePlace) -> Option<&ListedChain> {
        self.0.iter().find(|chain| {
            chain.family == at.family && chain.table == at.table && chain.name == at.chain
        })
    }

    /// Returns the hook (`NF_INET_*`) of a base chain.
    pub(crate) fn hook(&self, at: &RulePlace) -> Option<u32> {
        Some(self.find(at)?.base.as_ref()?.hook)
    }

    /// Reads what a rule says. A rule that has gone says nothing.
    pub(super) fn rule(&self, socket: &mut Socket, at: &RulePlace) -> RuleText {
        let Some(chain) = self.find(at).filter(|_| at.handle.is_some()) else {
            return RuleText::default();
        };
        let decode = |rule: ListedRule<'_>| Some((rule.handle, rejects(&rule)));
        let rules = list::rules(socket, at.family, Some(chain), decode).unwrap_or_default();
        let position = rules.iter().position(|(handle, _)| Some(*handle) == at.handle);
        let Some((index, (_, rejects))) = position.and_then(|it| Some((it, rules.get(it)?))) else {
            return RuleText::default();
        };
        let text = (at.table == NAME).then(|| self.our_rule(at, index, rules.len())).flatten();
        RuleText { text, rejects: *rejects }
    }

    /// Returns the rule at a position of a chain of ours. Rules that are as many are the same ones.
    fn our_rule(&self, at: &RulePlace, index: usize, count: usize) -> Option<String> {
        let ours = self.0.iter().filter(|chain| chain.table == NAME);
        let tables = ruleset::installed(ours.map(|chain| chain.name.as_str()))?;
        let table = tables.iter().find(|table| table.family == at.family)?;
        let lines: Vec<_> = table.rules_of(&at.chain).collect();
        let text = lines.get(index).filter(|_| lines.len() == count)?;
        Some((*text).to_owned())
    }
}

/// Returns whether a rule of nf_tables or of `iptables-nft` rejects.
fn rejects(rule: &ListedRule<'_>) -> bool {
    rule.expressions().any(|(name, data)| {
        let target = || data?.find(expression::EXTENSION_NAME)?.text();
        name == "reject" || name == "target" && target() == Some("REJECT")
    })
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::{Carry, Settings};

    use super::*;

    #[test]
    fn every_rule_has_its_line_in_each_variant_of_the_tables() {
        for (carry, one_packet_everywhere) in [
            (Carry::FrontEnds, false),
            (Carry::All, true),
            (Carry::Offload(Vec::new()), false),
            (Carry::Offload(Vec::new()), true),
        ] {
            let settings = Settings { carry, one_packet_everywhere, ..Settings::for_node("n1") };
            let tables = ruleset::tables(&settings);
            let chains = tables.iter().flat_map(|table| &table.chains);
            let installed = ruleset::installed(chains.map(|chain| chain.name.as_str()));
            assert_eq!(installed, Some(tables));
            for (table, chain) in
                tables.iter().flat_map(|table| table.chains.iter().map(move |it| (table, it)))
            {
                let lines = table.rules_of(&chain.name).count();
                assert_eq!(lines, chain.rules.len(), "{} {}", table.family.name(), chain.name);
            }
        }
        assert_eq!(ruleset::installed(["ruleset-of-another-version"].into_iter()), None);
    }
}
