//! kube-proxy's chains in the tables of `iptables-nft`, and the table of its nftables mode.

use netlink_ipvs::{Attributes, Batch, KernelError, Socket, Subsystem};

use super::names;
use crate::kernel::family::netfilter_header;
use crate::kernel::nft::constants::{chain, rule, table};
use crate::kernel::nft::list::{self, ListedChain, ListedRule};
use crate::kernel::nft::{self, TableFamily};

/// `NFT_MSG_*`
const DELETE_TABLE: u16 = 2;
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
        let mut batch = self.transaction();
        // The request that ends the transaction has no answer.
        let last = batch.len() - 2;
        for answer in socket.transact(&mut batch, last)? {
            match answer {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    return Err(KernelError::refused("removing kube-proxy's rules", error));
                }
                None => return Err(KernelError::Lost("nf_tables")),
            }
        }
        Ok(())
    }

    fn transaction(&self) -> Batch {
        let mut batch = Batch::default();
        nft::transaction(&mut batch, |batch| self.write(batch));
        batch
    }

    fn write(&self, batch: &mut Batch) {
        let mut push = |kind: u16, family: TableFamily, body: &dyn Fn(&mut Attributes<'_>)| {
            batch.push(nft::message_type(kind), 0, |message| {
                netfilter_header(message, family.number(), 0);
                body(message);
            });
        };
        for family in &self.tables {
            push(DELETE_TABLE, *family, &|message| message.text(table::NAME, names::TABLE));
        }
        let jumps = self.jumps.iter().map(|(chain, handle)| (chain, Some(handle)));
        // The chains lead to each other: all of them are emptied before the first is removed.
        let emptied = self.chains.iter().map(|chain| (chain, None));
        for (ListedChain { family, table, name, .. }, handle) in jumps.chain(emptied) {
            push(DELETE_RULE, *family, &|message| {
                message.text(rule::TABLE, table);
                message.text(rule::CHAIN, name);
                if let Some(handle) = handle {
                    message.bytes(rule::HANDLE, &handle.to_be_bytes());
                }
            });
        }
        for ListedChain { family, table, name, .. } in &self.chains {
            push(DELETE_CHAIN, *family, &|message| {
                message.text(chain::TABLE, table);
                message.text(chain::NAME, name);
            });
        }
    }
}

pub(super) fn open() -> Result<Socket, KernelError> {
    Socket::open(Subsystem::Netfilter)
}
