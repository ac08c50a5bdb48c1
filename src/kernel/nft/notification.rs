//! What the kernel tells of changes to tables (group `NFNLGRP_NFTABLES`).

use kube_ipvs_core::model::NAME;
use netlink_ipvs::{Header, attributes};

use super::request::SUBSYSTEM;

/// `NFTA_*_TABLE`: the same number in what is told of tables, chains, rules, sets and elements.
const TABLE_NAME: u16 = 1;

/// Whether a notification is about one of our tables.
pub(in crate::kernel) fn is_about_ours(header: Header, payload: &[u8]) -> bool {
    // `struct nfgenmsg` comes first.
    let rest = payload.get(4..).unwrap_or_default();
    header.kind >> 8 == SUBSYSTEM
        && attributes(rest).any(|it| it.kind == TABLE_NAME && it.text() == Some(NAME))
}

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::nft::request::message_type;

    fn header(kind: u16) -> Header {
        Header { kind, flags: 0, sequence: 0, port: 0 }
    }

    #[test]
    fn only_our_tables_are_meant() {
        let table = |name: &str| {
            let mut bytes = vec![1, 0, 0, 0];
            Attributes::new(&mut bytes).bytes(TABLE_NAME, name.as_bytes());
            bytes
        };
        let of_table = header(message_type(2));
        assert!(is_about_ours(of_table, &table("kube-ipvs\0")));
        assert!(!is_about_ours(of_table, &table("kube-proxy\0")));
    }

    proptest! {
        #[test]
        fn any_notification_can_be_read(kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_about_ours(header(kind), &bytes);
        }
    }
}
