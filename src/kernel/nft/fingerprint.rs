//! A fingerprint of the rules.

use netlink_ipvs::Batch;

use super::existing::Existing;
use super::request::{TransactionStep, write};
use super::table::Table;
use super::update::update;

/// Returns the name of the chain that identifies the tables: a hash of the messages that create them.
///
/// It is a chain because the kernel cannot change a table's comment.
pub(super) fn chain_name(tables: &[Table]) -> String {
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
