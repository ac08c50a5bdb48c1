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
    pub(super) flowtables: Vec<&'static str>,
    /// Its chains, in the order in which they are created.
    pub(super) chains: Vec<Chain>,
    /// The lines between its braces, as `nft list table` prints them while its sets are empty.
    pub(super) lines: Vec<String>,
}

/// The family of a table: which packets it sees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum TableFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// ARP.
    Arp,
    /// IPv6.
    Ip6,
    /// Another `NFPROTO_*`, such as that of bridges.
    Other(u8),
}

impl TableFamily {
    /// The family of each of our tables.
    pub(super) const OURS: [Self; 3] = [Self::Ip, Self::Ip6, Self::Arp];
    /// `NFPROTO_UNSPEC`: in a request, the tables of every family.
    pub(super) const ANY: Self = Self::Other(0);

    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }

    /// What `nft` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Ip6 => "ip6",
            Self::Other(_) => "other",
        }
    }

    /// The address families whose packets its chains see.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::Inet => &Family::BOTH,
            Self::Ip => &[Family::V4],
            Self::Ip6 => &[Family::V6],
            Self::Arp | Self::Other(_) => &[],
        }
    }

    /// The family of the addresses in one of our tables.
    pub(super) fn addresses(self) -> Family {
        if self == Self::Ip6 { Family::V6 } else { Family::V4 }
    }
}

impl From<u8> for TableFamily {
    /// The family of an `NFPROTO_*`.
    fn from(number: u8) -> Self {
        let known = [Self::Inet, Self::Ip, Self::Arp, Self::Ip6];
        known.into_iter().find(|family| family.number() == number).unwrap_or(Self::Other(number))
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

/// A chain, with its hook if it is a base chain. Every policy is accept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) base: Option<BaseChain>,
    pub(super) rules: Vec<Expressions>,
}

impl Chain {
    /// A chain without rules, which other rules lead to.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The hook and the priority of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BaseChain {
    /// The name that the kernel knows its kind by, such as `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`, `NF_ARP_*`.
    pub(crate) hook: u32,
    /// The place among the chains of a hook, lowest first.
    pub(crate) priority: i32,
}
