//! Reads the counters of the rules.

use kube_ipvs_core::model::Family;
use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::constants::counter;
use super::list::{self, ListedRule};
use super::request::DumpKind;

/// The reasons for which rules count packets, each with the chains of `ruleset.nft` that have such
/// rules.
pub const PACKET_REASONS: [(&str, &[&str]); 6] = [
    // No endpoint or no Service is there.
    ("refused", &["refuse"]),
    // Traffic policy Local has no endpoint on this node.
    ("policy", &["front-end", "inside", "node-port-refused"]),
    // The source is in none of the allowed ranges.
    ("source_range", &["restrict"]),
    // No Service has the address.
    ("unallocated", &["unallocated"]),
    // Connection tracking knows no connection for the packet.
    ("stray", &["misfit", "stray", "unknown"]),
    // The first packet of a connection whose source was replaced.
    ("masqueraded", &["masq"]),
];

/// The packets of the rules of one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketCount {
    pub family: Family,
    pub reason: &'static str,
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
        let found = list::ours(&mut socket, DumpKind::Rules, family.into(), counted)?;
        counts.extend(PACKET_REASONS.map(|(reason, chains)| {
            let of_reason = found.iter().filter(|(chain, _)| chains.contains(&chain.as_str()));
            PacketCount { family, reason, packets: of_reason.map(|(_, packets)| packets).sum() }
        }));
    }
    Ok(counts)
}

/// Returns the chain of a rule with a counter, and the packets that it has counted.
fn counted(payload: &[u8]) -> Option<(String, u64)> {
    let rule = ListedRule::decode(payload)?;
    let (_, data) = rule.expressions().find(|(name, _)| *name == "counter")?;
    Some((rule.chain.to_owned(), data?.find(counter::PACKETS)?.u64_be()?))
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
                let has = |(_, chains): &(_, &[&str])| chains.contains(&chain);
                assert!(PACKET_REASONS.iter().any(has), "{chain}: {line}");
            }
        }
        assert!(counters > 10, "{counters}");
    }
}
