//! kube-proxy's chains in the tables of `iptables-nft`, and the table of its nftables mode.

use netlink_ipvs::{Batch, KernelError, Socket, Subsystem};

use super::names;
use crate::kernel::nft::constants::{chain, rule};
use crate::kernel::nft::list::{self, ListedChain, ListedRule};
use crate::kernel::nft::{self, TableFamily};

/// `NFT_MSG_*`
const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;

/// kube-proxy's objects in nf_tables.
#[derive(Debug, Default)]
pub(super) struct Rules {
    chains: Vec<ListedChain>,
    /// Rules that lead to one of these chains: another chain, and the handle of its rule.
    jumps: Vec<(ListedChain, u64)>,
    /// Families that have the nftables mode's table.
    tables: Vec<TableFamily>,
}

/// Returns the chain of a rule and its handle, if the rule leads from another chain to one of these.
fn jump(rule: ListedRule<'_>, chains: &[ListedChain]) -> Option<(ListedChain, u64)> {
    let is_of_table =
        |chain: &&ListedChain| chain.family == rule.family && chain.table == rule.table;
    let has = |name: &str| chains.iter().filter(is_of_table).any(|chain| chain.name == name);
    let leads_there = !has(rule.chain) && rule.jumps().any(has);
    let (table, name) = (rule.table.to_owned(), rule.chain.to_owned());
    let chain = ListedChain { family: rule.family, table, name, base: None, drops: false };
    leads_there.then_some((chain, rule.handle))
}

impl Rules {
    /// Reads all chains, and the rules of `iptables-nft` if it has a chain of kube-proxy's.
    pub(super) fn read(socket: &mut Socket) -> Result<Self, KernelError> {
        let all = list::chains(socket)?;
        let of_table = all.iter().filter(|chain| names::is_of_table(chain));
        let mut tables: Vec<_> = of_table.map(|chain| chain.family).collect();
        tables.dedup();
        let chains: Vec<ListedChain> = all.into_iter().filter(names::is_chain).collect();
        let mut jumps = Vec::new();
        for family in [TableFamily::Ip, TableFamily::Ip6] {
            if chains.iter().any(|chain| chain.family == family) {
                jumps.extend(list::rules(socket, family, None, |rule| jump(rule, &chains))?);
            }
        }
        Ok(Self { chains, jumps, tables })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.tables.is_empty()
    }

    /// Returns the commands of `nft` that remove the objects.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let tables = self
            .tables
            .iter()
            .map(|family| format!("nft delete table {} {}", family.name(), names::TABLE));
        tables.chain(self.chains.iter().map(|chain| format!("nft delete chain {chain}")))
    }

    /// Removes all objects in one transaction: no packet sees a part.
    pub(super) fn remove(&self, socket: &mut Socket) -> Result<(), KernelError> {
        nft::submit(socket, "removing kube-proxy's rules", |batch| self.write(batch))
    }

    fn write(&self, batch: &mut Batch) {
        for family in &self.tables {
            nft::delete_table(batch, *family, names::TABLE);
        }
        let jumps = self.jumps.iter().map(|(chain, handle)| (chain, Some(handle)));
        // The chains lead to each other: all of them are emptied before the first is removed.
        let emptied = self.chains.iter().map(|chain| (chain, None));
        for (ListedChain { family, table, name, .. }, handle) in jumps.chain(emptied) {
            nft::push(batch, (DELETE_RULE, 0), (*family, table), |message| {
                message.text(rule::CHAIN, name);
                if let Some(handle) = handle {
                    message.bytes(rule::HANDLE, &handle.to_be_bytes());
                }
            });
        }
        for ListedChain { family, table, name, .. } in &self.chains {
            nft::push(batch, (DELETE_CHAIN, 0), (*family, table), |message| {
                message.text(chain::NAME, name);
            });
        }
    }
}

pub(super) fn open() -> Result<Socket, KernelError> {
    Socket::open(Subsystem::Netfilter)
}
