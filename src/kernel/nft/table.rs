//! Tables and chains.

use kube_ipvs_core::model::Family;

use super::expression::Expressions;
use super::set::Set;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    pub(super) family: TableFamily,
    /// The sets and maps, in the order of creation.
    pub(super) sets: Vec<Set>,
    pub(super) flowtables: Vec<&'static str>,
    /// The chains, in the order of creation.
    pub(super) chains: Vec<Chain>,
    /// The lines between the braces, as `nft list table` prints them with empty sets.
    pub(super) lines: Vec<String>,
}

impl Table {
    /// Returns the rules of a chain as `nft` prints them, in order.
    pub(super) fn rules_of(&self, chain: &str) -> impl Iterator<Item = &str> {
        let head = format!("\tchain {chain} {{");
        let lines = self.lines.iter().skip_while(move |line| **line != head).skip(1);
        let lines = lines.take_while(|line| *line != "\t}").map(|line| line.trim());
        lines.filter(|line| !line.starts_with("type "))
    }
}

/// The family of a table (`NFPROTO_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum TableFamily {
    Inet,
    Ip,
    Arp,
    Ip6,
    /// Any other number, such as that of bridges.
    Other(u8),
}

impl TableFamily {
    /// The families of this program's tables.
    pub(super) const OURS: [Self; 3] = [Self::Ip, Self::Ip6, Self::Arp];
    /// `NFPROTO_UNSPEC`: selects the tables of all families.
    pub(super) const ANY: Self = Self::Other(0);

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }

    /// Returns nft's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Ip6 => "ip6",
            Self::Other(_) => "other",
        }
    }

    /// Returns the address families of the packets in the family's chains.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::Inet => &Family::BOTH,
            Self::Ip => &[Family::V4],
            Self::Ip6 => &[Family::V6],
            Self::Arp | Self::Other(_) => &[],
        }
    }

    /// Returns the address family of a table of this program.
    pub(super) fn addresses(self) -> Family {
        if self == Self::Ip6 { Family::V6 } else { Family::V4 }
    }
}

impl From<u8> for TableFamily {
    fn from(number: u8) -> Self {
        let known = [Self::Inet, Self::Ip, Self::Arp, Self::Ip6];
        known.into_iter().find(|family| family.number() == number).unwrap_or(Self::Other(number))
    }
}

impl From<Family> for TableFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ip,
            Family::V6 => Self::Ip6,
        }
    }
}

/// A chain with policy accept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) base: Option<BaseChain>,
    pub(super) rules: Vec<Expressions>,
}

impl Chain {
    /// Returns a chain without hook and rules.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The hook and the priority of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BaseChain {
    /// `nat`, `filter` or `route`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`, `NF_ARP_*`.
    pub(crate) hook: u32,
    /// The order among the chains of a hook, lowest first.
    pub(crate) priority: i32,
}
