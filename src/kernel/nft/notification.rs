//! Notifications of table changes (group `NFNLGRP_NFTABLES`).

use netlink_ipvs::Header;

use super::list;
use super::request::SUBSYSTEM;

/// Returns whether a notification is about a table of this program.
pub(in crate::kernel) fn is_about_ours(header: Header, payload: &[u8]) -> bool {
    header.kind >> 8 == SUBSYSTEM && list::is_ours(payload)
}

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::nft::constants::TABLE;
    use crate::kernel::nft::request::message_type;

    fn header(kind: u16) -> Header {
        Header { kind, flags: 0, sequence: 0, port: 0 }
    }

    #[test]
    fn only_our_tables_are_meant() {
        let table = |name: &str| {
            let mut bytes = vec![1, 0, 0, 0];
            Attributes::new(&mut bytes).bytes(TABLE, name.as_bytes());
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
