//! kube-proxy's chains in the tables of `iptables-nft`, and the table of its nftables mode.

use netlink_ipvs::{Attribute, Attributes, Batch, KernelError, Socket, Subsystem, attributes};

use super::names;
use crate::kernel::chains::{self, ChainFamily, ForeignChain};
use crate::kernel::nft;
use crate::kernel::nft::constants::{
    DATA_VERDICT, HEADER_BYTES, chain, expression, rule, table, verdict,
};

/// `NFT_MSG_*`
const DELETE_TABLE: u16 = 2;
const DELETE_CHAIN: u16 = 5;
const DELETE_RULE: u16 = 8;

/// What there is of kube-proxy in nf_tables.
#[derive(Debug, Default)]
pub(super) struct Rules {
    chains: Vec<ForeignChain>,
    /// Rules elsewhere that lead to one of the chains.
    jumps: Vec<KubeProxyRule>,
    /// Families that have the nftables mode's table.
    tables: Vec<ChainFamily>,
}

/// A rule that leads to a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KubeProxyRule {
    family: ChainFamily,
    table: String,
    chain: String,
    handle: u64,
    leads_to: Vec<String>,
}

impl KubeProxyRule {
    /// To how many chains it leads.
    pub(super) fn jumps(&self) -> usize {
        self.leads_to.len()
    }
}

impl Rules {
    /// Reads everybody's chains, and the rules of `iptables-nft` if there is anything to remove.
    pub(super) fn read(socket: &mut Socket) -> Result<Self, KernelError> {
        let all = chains::read(socket)?;
        let mut tables: Vec<_> = all
            .iter()
            .filter(|chain| names::is_of_table(chain))
            .map(|chain| chain.family)
            .collect();
        tables.dedup();
        let chains: Vec<ForeignChain> = all.into_iter().filter(names::is_chain).collect();
        let mut jumps = Vec::new();
        for family in [ChainFamily::Ip, ChainFamily::Ip6] {
            if chains.iter().any(|chain| chain.family == family) {
                jumps.extend(rules(socket, family)?);
            }
        }
        let has = |rule: &KubeProxyRule, name: &str| {
            chains.iter().any(|chain| {
                chain.family == rule.family && chain.table == rule.table && chain.name == name
            })
        };
        jumps.retain(|rule| {
            !has(rule, &rule.chain) && rule.leads_to.iter().any(|chain| has(rule, chain))
        });
        Ok(Self { chains, jumps, tables })
    }

    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.tables.is_empty()
    }

    /// What there is, as the lines of `nft` that remove it.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let tables = self
            .tables
            .iter()
            .map(|family| format!("nft delete table {} {}", family.name(), names::TABLE));
        tables.chain(self.chains.iter().map(|chain| format!("nft delete chain {chain}")))
    }

    /// Removes all of it in one transaction: no packet sees a part.
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
        let mut push = |kind: u16, family: ChainFamily, body: &dyn Fn(&mut Attributes<'_>)| {
            batch.push(nft::message_type(kind), 0, |message| {
                header(message, family);
                body(message);
            });
        };
        for family in &self.tables {
            push(DELETE_TABLE, *family, &|message| message.text(table::NAME, names::TABLE));
        }
        for KubeProxyRule { family, table, chain, handle, .. } in &self.jumps {
            push(DELETE_RULE, *family, &|message| {
                message.text(rule::TABLE, table);
                message.text(rule::CHAIN, chain);
                message.bytes(rule::HANDLE, &handle.to_be_bytes());
            });
        }
        // The chains lead to each other: all of them are emptied before the first is removed.
        for ForeignChain { family, table, name, .. } in &self.chains {
            push(DELETE_RULE, *family, &|message| {
                message.text(rule::TABLE, table);
                message.text(rule::CHAIN, name);
            });
        }
        for ForeignChain { family, table, name, .. } in &self.chains {
            push(DELETE_CHAIN, *family, &|message| {
                message.text(chain::TABLE, table);
                message.text(chain::NAME, name);
            });
        }
    }
}

/// Opens what the above is given.
pub(super) fn open() -> Result<Socket, KernelError> {
    Socket::open(Subsystem::Netfilter)
}

fn header(message: &mut Attributes<'_>, family: ChainFamily) {
    nft::header(message, family.number().unwrap_or(0), 0);
}

/// The rules of `iptables-nft`'s tables that lead to a chain.
fn rules(socket: &mut Socket, family: ChainFamily) -> Result<Vec<KubeProxyRule>, KernelError> {
    socket.dump(
        "nf_tables rules",
        nft::message_type(rule::GET),
        |message| header(message, family),
        |rules: &mut Vec<KubeProxyRule>, _, body| rules.extend(decode(body)),
    )
}

/// Reads NFT_MSG_NEWRULE: `struct nfgenmsg` and attributes.
pub(super) fn decode(body: &[u8]) -> Option<KubeProxyRule> {
    let (header, rest) = body.split_at_checked(HEADER_BYTES)?;
    let family = ChainFamily::of_number(*header.first()?);
    let (mut table, mut chain, mut handle) = (None, None, None);
    let mut leads_to = Vec::new();
    for attribute in attributes(rest) {
        match attribute.kind {
            rule::TABLE => table = attribute.text(),
            rule::CHAIN => chain = attribute.text(),
            rule::HANDLE => {
                handle = attribute.value.first_chunk().copied().map(u64::from_be_bytes);
            }
            rule::EXPRESSIONS => leads_to = attribute.nested().filter_map(jump).collect(),
            _ => {}
        }
    }
    let rule = KubeProxyRule {
        family,
        table: table?.to_owned(),
        chain: chain?.to_owned(),
        handle: handle?,
        leads_to,
    };
    (names::is_in_iptables(family, &rule.table) && !rule.leads_to.is_empty()).then_some(rule)
}

/// The chain that an expression leads to, if it is a verdict that does.
fn jump(expression: Attribute<'_>) -> Option<String> {
    let is_immediate = expression.find(rule::EXPRESSION_NAME)?.text() == Some("immediate");
    let data = expression.find(rule::EXPRESSION_DATA)?.find(expression::IMMEDIATE_DATA)?;
    let chain = data.find(DATA_VERDICT)?.find(verdict::CHAIN)?;
    chain.text().filter(|_| is_immediate).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(expression: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let mut message = Attributes::new(&mut body);
        header(&mut message, ChainFamily::Ip);
        message.text(rule::TABLE, "nat");
        message.text(rule::CHAIN, "PREROUTING");
        message.bytes(rule::HANDLE, &7u64.to_be_bytes());
        message.nest(rule::EXPRESSIONS, |list| {
            list.nest(1, |element| {
                element.text(rule::EXPRESSION_NAME, expression);
                element.nest(rule::EXPRESSION_DATA, |data| {
                    data.nest(expression::IMMEDIATE_DATA, |value| {
                        value.nest(DATA_VERDICT, |verdict| {
                            verdict.text(verdict::CHAIN, "KUBE-SERVICES");
                        });
                    });
                });
            });
        });
        body
    }

    #[test]
    fn a_rule_that_leads_to_a_chain_is_read() {
        let expected = KubeProxyRule {
            family: ChainFamily::Ip,
            table: "nat".to_owned(),
            chain: "PREROUTING".to_owned(),
            handle: 7,
            leads_to: vec!["KUBE-SERVICES".to_owned()],
        };
        assert_eq!(decode(&rule("immediate")), Some(expected));
        assert_eq!(decode(&rule("counter")), None);
    }

    proptest! {
        #[test]
        fn nothing_received_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}
