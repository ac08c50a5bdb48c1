//! Reads the counters of the rules.

use kube_ipvs_core::model::{Family, NAME};
use netlink_ipvs::{KernelError, Socket, Subsystem};
use rustc_hash::FxHashMap;

use super::constants::{counter, rule as nfta_rule};
use super::list::{self, ListedRule};
use super::request::DumpKind;
use super::table::TableFamily;

/// Why a rule has counted a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PacketReason {
    /// Refused, as no endpoint or no Service is there.
    Refused,
    /// Dropped, as traffic policy Local has no endpoint on this node.
    Policy,
    /// Dropped, as the source is in none of the allowed ranges.
    SourceRange,
    /// Dropped, as no Service has the address.
    Unallocated,
    /// Dropped, as connection tracking knows no connection for it.
    Stray,
    /// The first packet of a connection whose source was replaced.
    Masqueraded,
}

impl PacketReason {
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Policy,
        Self::SourceRange,
        Self::Unallocated,
        Self::Stray,
        Self::Masqueraded,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Policy => "policy",
            Self::SourceRange => "source_range",
            Self::Unallocated => "unallocated",
            Self::Stray => "stray",
            Self::Masqueraded => "masqueraded",
        }
    }

    /// Returns the reason of the rules with a counter in a chain of `ruleset.nft`.
    fn of_chain(chain: &str) -> Option<Self> {
        Some(match chain {
            "refuse" => Self::Refused,
            "front-end" | "inside" | "node-port-refused" => Self::Policy,
            "restrict" => Self::SourceRange,
            "unallocated" => Self::Unallocated,
            "misfit" | "stray" | "unknown" => Self::Stray,
            "masq" => Self::Masqueraded,
            _ => return None,
        })
    }
}

/// The packets of the rules of one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketCount {
    pub family: Family,
    pub reason: PacketReason,
    pub packets: u64,
}

/// Reads the packets by reason, from the rules of this program's tables. Their number does not depend
/// on the Services.
///
/// # Errors
///
/// If the kernel has no nf_tables, or the process lacks CAP_NET_ADMIN.
pub fn packet_counts() -> Result<Vec<PacketCount>, KernelError> {
    let mut socket = Socket::open(Subsystem::Netfilter)?;
    let mut counts = Vec::new();
    for family in Family::BOTH {
        let take = |found: &mut FxHashMap<PacketReason, u64>, payload: &[u8]| {
            if let Some((reason, packets)) = ListedRule::decode(payload).and_then(counted) {
                *found.entry(reason).or_default() += packets;
            }
        };
        let found = list::read(
            &mut socket,
            DumpKind::Rules,
            TableFamily::from(family),
            |of| of.text(nfta_rule::TABLE, NAME),
            take,
        )?;
        let count = |reason: PacketReason| PacketCount {
            family,
            reason,
            packets: found.get(&reason).copied().unwrap_or_default(),
        };
        counts.extend(PacketReason::ALL.map(count));
    }
    Ok(counts)
}

/// Returns the packets that a rule of ours has counted, and why.
fn counted(rule: ListedRule<'_>) -> Option<(PacketReason, u64)> {
    let reason = PacketReason::of_chain(rule.chain).filter(|_| rule.table == NAME)?;
    let (_, data) = rule.expressions().find(|(name, _)| *name == "counter")?;
    let packets = data?.find(counter::PACKETS)?;
    Some((reason, u64::from_be_bytes(*packets.value.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_reason() {
        let mut chain = "";
        let mut counters = 0;
        for line in include_str!("ruleset.nft").lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ") {
                chain = name.trim_end_matches(" {");
            } else if !line.starts_with('#') && line.split(' ').any(|word| word == "counter") {
                counters += 1;
                assert!(PacketReason::of_chain(chain).is_some(), "{chain}: {line}");
            }
        }
        assert!(counters > 10, "{counters}");
    }
}
