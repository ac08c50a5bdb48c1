//! Lists chains, rules, sets, flowtables and elements of any table, also those of `iptables-nft`.

use std::fmt;

use kube_ipvs_core::model::{InterfaceName, NAME};
use netlink_ipvs::{Attribute, Attributes, KernelError, Socket, attributes, find};
use rustix::io::Errno;

use super::constants::{
    DATA_VALUE, DATA_VERDICT, TABLE, chain as nfta_chain, element as nfta_element, expression,
    flowtable as nfta_flowtable, rule as nfta_rule, set as nfta_set, verdict,
};
use super::element::RawElement;
use super::request::DumpKind;
use super::table::{BaseChain, TableFamily};
use crate::kernel::family::{netfilter_header, netfilter_message};

/// Lists objects of a kind: none of a table or set that does not exist.
pub(super) fn read<T: Default>(
    socket: &mut Socket,
    what: DumpKind,
    family: TableFamily,
    of: impl Fn(&mut Attributes<'_>),
    take: impl Fn(&mut T, &[u8]),
) -> Result<T, KernelError> {
    let fill = |message: &mut Attributes<'_>| {
        netfilter_header(message, family.number(), 0);
        of(message);
    };
    let listed =
        socket.dump("nf_tables list", what.kind(), fill, |found, _, payload| take(found, payload));
    match listed {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(T::default()),
        listed => listed,
    }
}

/// Lists the chains of every table.
pub(crate) fn chains(socket: &mut Socket) -> Result<Vec<ListedChain>, KernelError> {
    let take = |chains: &mut Vec<_>, payload: &[u8]| chains.extend(ListedChain::decode(payload));
    read(socket, DumpKind::Chains, TableFamily::ANY, |_| {}, take)
}

/// Lists the rules of a family or of one chain, in order, without those for which `decode` returns
/// `None`.
pub(crate) fn rules<T>(
    socket: &mut Socket,
    family: TableFamily,
    chain: Option<&ListedChain>,
    decode: impl Fn(ListedRule<'_>) -> Option<T>,
) -> Result<Vec<T>, KernelError> {
    let of = |message: &mut Attributes<'_>| {
        if let Some(chain) = chain {
            message.text(TABLE, &chain.table);
            message.text(nfta_rule::CHAIN, &chain.name);
        }
    };
    read(socket, DumpKind::Rules, family, of, |rules: &mut Vec<T>, payload| {
        rules.extend(ListedRule::decode(payload).and_then(&decode));
    })
}

/// Lists what `decode` reads of this program's objects of a kind.
pub(super) fn ours<T>(
    socket: &mut Socket,
    what: DumpKind,
    family: TableFamily,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, KernelError> {
    let take = |found: &mut Vec<T>, payload: &[u8]| {
        found.extend(is_ours(payload).then(|| decode(payload)).flatten());
    };
    read(socket, what, family, |message| message.text(TABLE, NAME), take)
}

pub(super) fn is_ours(payload: &[u8]) -> bool {
    netfilter_message(payload)
        .is_some_and(|(_, rest)| find(rest, TABLE).and_then(|it| it.text()) == Some(NAME))
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListedChain {
    pub(crate) family: TableFamily,
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) base: Option<BaseChain>,
    pub(crate) drops: bool,
}

impl ListedChain {
    /// Reads `NFT_MSG_NEWCHAIN`.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (family, rest) = netfilter_message(payload)?;
        let policy = find(rest, nfta_chain::POLICY).and_then(|policy| policy.u32_be());
        Some(Self {
            family: family.into(),
            table: find(rest, TABLE)?.text()?.to_owned(),
            name: find(rest, nfta_chain::NAME)?.text()?.to_owned(),
            base: base(rest),
            drops: policy == Some(verdict::DROP),
        })
    }
}

impl fmt::Display for ListedChain {
    /// Formats the arguments of `nft`: family, table and chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.name(), self.table, self.name)
    }
}

fn base(chain: &[u8]) -> Option<BaseChain> {
    let kind = find(chain, nfta_chain::TYPE)?.text()?;
    let hook = find(chain, nfta_chain::HOOK)?;
    let number = |wanted| hook.find(wanted)?.u32_be();
    Some(BaseChain {
        kind: ["filter", "nat", "route"].into_iter().find(|it| *it == kind).unwrap_or("unknown"),
        hook: number(nfta_chain::HOOK_NUMBER)?,
        priority: number(nfta_chain::HOOK_PRIORITY)?.cast_signed(),
    })
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ListedRule<'a> {
    pub(crate) family: TableFamily,
    pub(crate) table: &'a str,
    pub(crate) chain: &'a str,
    /// Identifies the rule within its table.
    pub(crate) handle: u64,
    expressions: Option<Attribute<'a>>,
}

impl<'a> ListedRule<'a> {
    /// Reads `NFT_MSG_NEWRULE`.
    pub(crate) fn decode(payload: &'a [u8]) -> Option<Self> {
        let (family, rest) = netfilter_message(payload)?;
        Some(Self {
            family: family.into(),
            table: find(rest, TABLE)?.text()?,
            chain: find(rest, nfta_rule::CHAIN)?.text()?,
            handle: find(rest, nfta_rule::HANDLE).and_then(|it| it.u64_be()).unwrap_or_default(),
            expressions: find(rest, nfta_rule::EXPRESSIONS),
        })
    }

    /// Returns the name and the attributes of each expression.
    pub(crate) fn expressions(&self) -> impl Iterator<Item = (&'a str, Option<Attribute<'a>>)> {
        let list = self.expressions.into_iter().flat_map(|list| list.nested());
        list.map(|item| {
            let name = item.find(nfta_rule::EXPRESSION_NAME).and_then(|name| name.text());
            (name.unwrap_or_default(), item.find(nfta_rule::EXPRESSION_DATA))
        })
    }

    /// Returns the chains to which the rule jumps.
    pub(crate) fn jumps(&self) -> impl Iterator<Item = &'a str> {
        let verdicts = self.expressions().filter(|(name, _)| *name == "immediate");
        verdicts.filter_map(|(_, data)| verdict_of(data?)?.find(verdict::CHAIN)?.text())
    }
}

/// Returns the verdict of an `immediate` expression.
pub(crate) fn verdict_of(immediate: Attribute<'_>) -> Option<Attribute<'_>> {
    immediate.find(expression::IMMEDIATE_DATA)?.find(DATA_VERDICT)
}

/// A set or map; for the numbers see [`Set`](super::set::Set).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ListedSet {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) value_type: u32,
    pub(super) value_len: u32,
}

impl ListedSet {
    /// Reads `NFT_MSG_NEWSET`.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (_, rest) = netfilter_message(payload)?;
        let number = |kind| find(rest, kind).and_then(|it| it.u32_be()).unwrap_or_default();
        Some(Self {
            name: find(rest, nfta_set::NAME)?.text()?.to_owned(),
            flags: number(nfta_set::FLAGS),
            key_type: number(nfta_set::KEY_TYPE),
            key_len: number(nfta_set::KEY_LEN),
            value_type: number(nfta_set::DATA_TYPE),
            value_len: number(nfta_set::DATA_LEN),
        })
    }

    /// Returns whether the set belongs to a rule and is deleted with it.
    pub(super) fn is_anonymous(&self) -> bool {
        self.flags & nfta_set::FLAG_ANONYMOUS != 0
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ListedFlowtable {
    pub(super) name: String,
    pub(super) links: Vec<InterfaceName>,
}

impl ListedFlowtable {
    /// Reads `NFT_MSG_NEWFLOWTABLE`.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (_, rest) = netfilter_message(payload)?;
        let links = find(rest, nfta_flowtable::HOOK)?.find(nfta_flowtable::HOOK_LINKS);
        let links = links.iter().flat_map(Attribute::nested);
        let links = links.filter_map(|link| link.text()?.parse().ok()).collect();
        Some(Self { name: find(rest, nfta_flowtable::NAME)?.text()?.to_owned(), links })
    }
}

/// Reads `NFT_MSG_NEWSETELEM`.
pub(super) fn elements(payload: &[u8]) -> impl Iterator<Item = RawElement<'_>> {
    let (_, rest) = netfilter_message(payload).unwrap_or_default();
    attributes(rest)
        .filter(|attribute| attribute.kind == nfta_element::LIST_ELEMENTS)
        .flat_map(|list| list.nested())
        .map(|element| raw_element(&element))
}

fn raw_element<'a>(element: &Attribute<'a>) -> RawElement<'a> {
    let mut raw = RawElement::default();
    for attribute in element.nested() {
        let value = || attribute.find(DATA_VALUE).map(|value| value.value);
        match attribute.kind {
            nfta_element::KEY => raw.key = value().unwrap_or_default(),
            nfta_element::DATA => raw.value = value(),
            nfta_element::FLAGS => {
                let flags = attribute.u32_be().unwrap_or_default();
                raw.ends_range = flags & nfta_element::FLAG_INTERVAL_END != 0;
            }
            nfta_element::KEY_END => raw.key_end = value(),
            _ => {}
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: TableFamily, fill: impl Fn(&mut Attributes<'_>)) -> Vec<u8> {
        let mut body = Vec::new();
        let mut message = Attributes::new(&mut body);
        netfilter_header(&mut message, family.number(), 0);
        fill(&mut message);
        body
    }

    #[test]
    fn a_base_chain_is_read() {
        let body = message(TableFamily::Ip, |message| {
            message.text(TABLE, "filter");
            message.text(nfta_chain::NAME, "FORWARD");
            message.nest(nfta_chain::HOOK, |hook| {
                hook.u32_be(nfta_chain::HOOK_NUMBER, 2);
                hook.u32_be(nfta_chain::HOOK_PRIORITY, (-5_i32).cast_unsigned());
            });
            message.u32_be(nfta_chain::POLICY, verdict::DROP);
            message.text(nfta_chain::TYPE, "filter");
        });
        let expected = ListedChain {
            family: TableFamily::Ip,
            table: "filter".to_owned(),
            name: "FORWARD".to_owned(),
            base: Some(BaseChain { kind: "filter", hook: 2, priority: -5 }),
            drops: true,
        };
        assert_eq!(ListedChain::decode(&body), Some(expected));
    }

    #[test]
    fn a_rule_that_leads_to_a_chain_is_read() {
        let body = |expression: &str| {
            message(TableFamily::Ip6, |message| {
                message.text(TABLE, "nat");
                message.text(nfta_rule::CHAIN, "PREROUTING");
                message.bytes(nfta_rule::HANDLE, &7u64.to_be_bytes());
                message.nest(nfta_rule::EXPRESSIONS, |list| {
                    list.nest(1, |element| {
                        element.text(nfta_rule::EXPRESSION_NAME, expression);
                        element.nest(nfta_rule::EXPRESSION_DATA, |data| {
                            data.nest(expression::IMMEDIATE_DATA, |value| {
                                value.nest(DATA_VERDICT, |verdict| {
                                    verdict.text(verdict::CHAIN, "KUBE-SERVICES");
                                });
                            });
                        });
                    });
                });
            })
        };
        let (leading, other) = (body("immediate"), body("counter"));
        let rule = ListedRule::decode(&leading).expect("a rule");
        assert_eq!((rule.family, rule.table), (TableFamily::Ip6, "nat"));
        assert_eq!((rule.chain, rule.handle), ("PREROUTING", 7));
        assert_eq!(rule.jumps().collect::<Vec<_>>(), ["KUBE-SERVICES"]);
        assert_eq!(ListedRule::decode(&other).expect("a rule").jumps().count(), 0);
    }
}
