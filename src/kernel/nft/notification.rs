//! Notifications of table changes (group `NFNLGRP_NFTABLES`).

use kube_ipvs_core::model::NAME;
use netlink_ipvs::{Header, find};

use super::constants::{TABLE, chain, element, flowtable, generation, rule, set};
use super::list;
use super::request::{SUBSYSTEM, message_type};
use super::table::TableFamily;
use crate::kernel::family::netfilter_message;

/// Returns whether a notification is about a table of this program.
pub(in crate::kernel) fn is_about_ours(header: Header, payload: &[u8]) -> bool {
    header.kind >> 8 == SUBSYSTEM && list::is_ours(payload)
}

/// `NFT_MSG_NEWGEN`: the end of a transaction.
const NEW_GENERATION: u16 = message_type(15);

/// `NFT_MSG_*` of changes: what changes, and the attribute with its name.
const CHANGES: [(u16, &str, u16); 12] = [
    (0, "added table", TABLE),
    (2, "deleted table", TABLE),
    (3, "changed chain", chain::NAME),
    (5, "deleted chain", chain::NAME),
    (6, "added a rule to chain", rule::CHAIN),
    (8, "deleted a rule of chain", rule::CHAIN),
    (9, "changed set", set::NAME),
    (11, "deleted set", set::NAME),
    (12, "added an element to set", element::LIST_SET),
    (14, "deleted an element of set", element::LIST_SET),
    (22, "changed flowtable", flowtable::NAME),
    (24, "deleted flowtable", flowtable::NAME),
];

/// Returns what a notification about a table of this program says.
pub(in crate::kernel) fn describe(header: Header, payload: &[u8]) -> Option<String> {
    if !is_about_ours(header, payload) {
        return None;
    }
    let (family, rest) = netfilter_message(payload)?;
    let family = TableFamily::from(family).name();
    let change = CHANGES.iter().find(|(kind, ..)| message_type(*kind) == header.kind);
    let Some((_, change, named_by)) = change else {
        return Some(format!("changed table {family} {NAME}"));
    };
    let name = find(rest, *named_by).and_then(|name| name.text()).unwrap_or_default();
    Some(format!("{change} {name} ({family})"))
}

/// Returns the process that made a transaction, by the notification at its end.
pub(in crate::kernel) fn writer(header: Header, payload: &[u8]) -> Option<String> {
    if header.kind != NEW_GENERATION {
        return None;
    }
    let (_, rest) = netfilter_message(payload)?;
    let name = find(rest, generation::PROCESS_NAME)?.text()?;
    let pid = find(rest, generation::PROCESS)?.u32_be()?;
    Some(format!("{name} (process {pid})"))
}

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn a_change_is_described_and_its_process_named() {
        let mut flushed = vec![2, 0, 0, 0];
        let mut attributes = Attributes::new(&mut flushed);
        attributes.text(TABLE, "kube-ipvs");
        attributes.text(element::LIST_SET, "pools");
        let flushed = describe(header(message_type(14)), &flushed);
        assert_eq!(flushed.as_deref(), Some("deleted an element of set pools (ip)"));
        let mut end = vec![0, 0, 0, 0];
        let mut attributes = Attributes::new(&mut end);
        attributes.u32_be(generation::PROCESS, 4711);
        attributes.text(generation::PROCESS_NAME, "nft");
        let end = writer(header(NEW_GENERATION), &end);
        assert_eq!(end.as_deref(), Some("nft (process 4711)"));
    }

    proptest! {
        #[test]
        fn any_notification_can_be_read(kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = describe(header(kind), &bytes);
            let _ = writer(header(kind), &bytes);
        }
    }
}
