//! Tables and chains: what holds the sets and rules.

use kube_ipvs_core::model::Family;

use super::expression::Expressions;
use super::set::Set;

/// A table of one `nf_tables` family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Which packets it sees.
    pub(super) family: TableFamily,
    /// Its sets and maps, in the order in which they are created.
    pub(super) sets: Vec<Set>,
    /// The names of its flowtables.
    pub(super) flowtables: Vec<&'static str>,
    /// Its chains, in the order in which they are created.
    pub(super) chains: Vec<Chain>,
    /// The lines between its braces, as `nft list table` prints them while its sets are empty.
    pub(super) lines: Vec<String>,
}

/// The families of our tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP.
    Arp,
}

impl TableFamily {
    /// The family of each of our tables.
    pub(super) const ALL: [Self; 3] = [Self::Ip, Self::Ip6, Self::Arp];

    /// `NFPROTO_*`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Arp => 3,
        }
    }

    /// What `nft` calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Arp => "arp",
        }
    }

    /// The family of the addresses in the table.
    pub(super) fn addresses(self) -> Family {
        match self {
            Self::Ip | Self::Arp => Family::V4,
            Self::Ip6 => Family::V6,
        }
    }
}

impl From<Family> for TableFamily {
    /// The table for packets of a family.
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ip,
            Family::V6 => Self::Ip6,
        }
    }
}

/// A chain, with the hook that it hangs on if it is a base chain. Every policy is accept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Chain {
    /// The name, unique within the table.
    pub(super) name: String,
    /// Where packets enter.
    pub(super) base: Option<BaseChain>,
    /// The rules, in order.
    pub(super) rules: Vec<Expressions>,
}

impl Chain {
    /// A chain without rules, which other rules lead to.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// Where a base chain hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BaseChain {
    /// The name that the kernel knows its kind by: `nat` or `filter`.
    pub(super) kind: &'static str,
    /// `NF_INET_*`, `NF_ARP_*`.
    pub(super) hook: u32,
    /// The place among the chains of a hook, lowest first.
    pub(super) priority: i32,
}
