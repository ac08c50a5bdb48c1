//! Reads `ruleset.nft`.

use std::sync::OnceLock;

use kube_ipvs_core::model::{Carry, NAME, Settings};
use netlink_ipvs::Batch;

use super::compile;
use super::request::{TransactionStep, write};
use super::set::{Layout, Set};
use super::table::{BaseChain, Chain, Table, TableFamily};
use super::update::{Existing, update};

/// The rules of this version, in nft's language.
pub(super) const TEXT: &str = include_str!("ruleset.nft");

/// The prefixes of lines that depend on the configuration.
const CONDITIONS: [&str; 2] = ["$offload", "$one-packet"];

/// The variables of the text with their values for IPv4 and IPv6.
const WORDS: [(&str, [&str; 2]); 7] = [
    ("$ip", ["ip", "ip6"]),
    ("$address", ["ipv4_addr", "ipv6_addr"]),
    ("$none", ["0.0.0.0", "::"]),
    ("$protocol", ["ip protocol", "ip6 nexthdr"]),
    ("$icmp", ["icmp", "icmpv6"]),
    ("$icmp_protocol", ["icmp", "ipv6-icmp"]),
    ("$unreachable", ["host-unreachable", "addr-unreachable"]),
];

/// Returns the tables without what Services add. Each has an unused chain, whose name is the
/// fingerprint.
pub(super) fn tables(settings: &Settings) -> &'static [Table] {
    variant([matches!(settings.carry, Carry::Offload(_)), settings.one_packet_everywhere])
}

/// Returns the tables that the kernel holds, by the fingerprint among the names of its chains; `None`
/// if they are those of another version.
pub(super) fn installed<'a>(
    chains: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'static [Table]> {
    let variants = [[false, false], [false, true], [true, false], [true, true]];
    variants.into_iter().map(variant).find(|tables| {
        let marker = tables.first().and_then(|table| table.chains.last());
        marker.is_some_and(|marker| chains.clone().any(|name| name == marker.name))
    })
}

fn variant(conditions: [bool; 2]) -> &'static [Table] {
    static TABLES: [[OnceLock<Vec<Table>>; 2]; 2] = [const { [const { OnceLock::new() }; 2] }; 2];
    let [without, with] = &TABLES;
    let [without, with] = if conditions[0] { with } else { without };
    let tables = if conditions[1] { with } else { without };
    tables.get_or_init(|| read(conditions))
}

fn read(conditions: [bool; 2]) -> Vec<Table> {
    // A test makes sure that the text has no mistake.
    let table = |family| table(TEXT, family, conditions).ok();
    let mut tables: Vec<_> = TableFamily::OURS.into_iter().filter_map(table).collect();
    let marker = fingerprint(&tables);
    for table in &mut tables {
        table.lines.extend([String::new(), format!("\tchain {marker} {{"), "\t}".to_owned()]);
        table.chains.push(Chain::named(marker.as_str()));
    }
    tables
}

/// Returns the name of the chain that identifies the tables: a hash of the messages that create them.
///
/// It is a chain because the kernel cannot change a table's comment.
fn fingerprint(tables: &[Table]) -> String {
    let nothing = Existing::default();
    let steps: Vec<_> = tables
        .iter()
        .flat_map(|table| {
            let changes = update(table, &nothing).into_iter();
            changes.map(|change| TransactionStep { operation: 0, table: table.family, change })
        })
        .collect();
    let mut batch = Batch::default();
    write(&mut batch, &steps);
    format!("ruleset-{:016x}", fnv(batch.bytes()))
}

/// The 64-bit FNV-1a hash, which is the same in every build.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Reads the table of a family, with the lines of the [`CONDITIONS`] that hold.
///
/// # Errors
///
/// Names the first line in an unknown form.
pub(super) fn table(
    text: &'static str,
    family: TableFamily,
    conditions: [bool; 2],
) -> Result<Table, String> {
    let unknown =
        |number, line: &str| format!("line {number}: {:?} has an unknown form", line.trim());
    let mut table = Table {
        family,
        sets: Vec::new(),
        flowtables: Vec::new(),
        chains: Vec::new(),
        lines: Vec::new(),
    };
    let mut of = None;
    for (number, line) in (1..).zip(text.lines()) {
        let condition = CONDITIONS
            .into_iter()
            .zip(conditions)
            .find_map(|(prefix, holds)| line.strip_prefix(prefix).map(|line| (line, holds)));
        let line = match condition {
            Some((_, false)) => continue,
            Some((line, true)) => line,
            None => line,
        };
        let words: Vec<&'static str> =
            line.split_whitespace().flat_map(|word| meaning(word, family).split(' ')).collect();
        match words.as_slice() {
            [word, ..] if word.starts_with('#') => {}
            ["table", name, NAME, "{"] => of = Some(*name),
            ["}"] if line == "}" => of = None,
            words if of == Some(family.name()) => {
                let indent = line.len() - line.trim_start().len();
                table.lines.push("\t".repeat(indent) + &words.join(" "));
                add(&mut table, words).ok_or_else(|| unknown(number, line))?;
            }
            words if of.is_some() || words.is_empty() => {}
            _ => return Err(unknown(number, line)),
        }
    }
    Ok(table)
}

/// Replaces a variable.
fn meaning(word: &'static str, family: TableFamily) -> &'static str {
    let meanings = WORDS.into_iter().find(|(name, _)| *name == word).map(|(_, both)| both);
    match (family, meanings) {
        (TableFamily::Ip, Some([v4, _])) => v4,
        (TableFamily::Ip6, Some([_, v6])) => v6,
        _ => word,
    }
}

/// Adds a line to the last set or chain. Chains follow all sets.
fn add(table: &mut Table, words: &[&'static str]) -> Option<()> {
    match words {
        [] | ["}"] => {}
        ["set" | "map", name, "{"] => table.sets.push(Set { name, ..Set::default() }),
        [
            "type",
            kind @ ("nat" | "filter"),
            "hook",
            hook,
            "priority",
            priority @ ..,
            "policy",
            "accept;",
        ] => {
            let hook = hook_number(table.family, hook)?;
            let priority = priority_number(&priority.join(" "))?;
            table.chains.last_mut()?.base = Some(BaseChain { kind, hook, priority });
        }
        ["type", types @ ..] => {
            let mut types = types.split(|word| *word == ":").map(Layout::of);
            let set = table.sets.last_mut()?;
            set.key = types.next()??;
            set.value = match types.next() {
                Some(value) => Some(value?),
                None => None,
            };
        }
        ["flowtable", name, "{"] => table.flowtables.push(name),
        ["hook", "ingress", "priority", "filter"] => {}
        ["flags", "interval"] => table.sets.last_mut()?.interval = true,
        ["chain", name, "{"] => table.chains.push(Chain::named(*name)),
        rule => {
            let rule = compile::rule(rule, table.family, &table.sets)?;
            table.chains.last_mut()?.rules.push(rule);
        }
    }
    Some(())
}

/// `NF_INET_*`, `NF_ARP_*`.
fn hook_number(family: TableFamily, hook: &str) -> Option<u32> {
    Some(match (family, hook) {
        (TableFamily::Arp, "input") | (_, "prerouting") => 0,
        (_, "input") => 1,
        (_, "forward") => 2,
        (_, "output") => 3,
        (_, "postrouting") => 4,
        _ => return None,
    })
}

/// Parses a priority as `nft` prints it: a name, a name with a distance of ten, or a number.
fn priority_number(text: &str) -> Option<i32> {
    Some(match text.strip_suffix(';')? {
        "mangle" => -150,
        "filter" => 0,
        "srcnat" => 100,
        "dstnat - 10" => -110,
        number => number.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
