//! Tables and chains: what holds the sets and rules.

use std::fmt;

use super::rule::Rule;
use super::set::Set;

/// A table of one `nf_tables` family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Which packets it sees.
    pub(super) family: TableFamily,
    /// Its sets and maps, in the order in which they are created.
    pub(super) sets: Vec<Set>,
    /// Its chains, in the order in which they are created.
    pub(super) chains: Vec<Chain>,
}

/// The families of our tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum TableFamily {
    /// IPv4 and IPv6.
    Inet,
    /// ARP.
    Arp,
}

impl TableFamily {
    /// `NFPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Arp => 3,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Arp => "arp",
        })
    }
}

/// A chain, with the hook that it hangs on if it is a base chain. Every policy is accept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    /// The name, unique within the table.
    pub(super) name: String,
    /// Where packets enter.
    pub(super) base: Option<Base>,
    /// The rules, in order.
    pub(super) rules: Vec<Rule>,
}

impl Chain {
    /// A chain where packets enter.
    pub(super) fn base(
        name: &'static str,
        kind: ChainKind,
        hook: Hook,
        priority: i32,
        rules: impl IntoIterator<Item = Rule>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            base: Some(Base { kind, hook, priority }),
            rules: rules.into_iter().collect(),
        }
    }

    /// A chain that rules lead to.
    pub(super) fn regular(name: impl Into<String>, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { name: name.into(), base: None, rules: rules.into_iter().collect() }
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Base {
    /// `nat` or `filter`.
    pub(super) kind: ChainKind,
    /// The point in the packet's path.
    pub(super) hook: Hook,
    /// The place among the chains of a hook, lowest first.
    pub(super) priority: i32,
}

/// What a base chain may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection and may translate it.
    Nat,
}

impl ChainKind {
    /// The name that the kernel knows it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// A point in a packet's path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To this node.
    Input,
    /// From this node.
    Output,
    /// Before it leaves.
    Postrouting,
    /// ARP packets to this node.
    ArpInput,
}

impl Hook {
    /// `NF_INET_*`, `NF_ARP_*`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting | Self::ArpInput => 0,
            Self::Input => 1,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Input | Self::ArpInput => "input",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        })
    }
}
