//! What the kernel tells of changes to devices, addresses and routes.

use super::decode;
use crate::kernel::netlink::{Header, attributes};
use crate::model::{NAME, ROUTE_PROTOCOL};

pub(super) const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
const IFA_LABEL: u16 = 3;

/// Whether a notification is about our device or routes.
pub(in crate::kernel) fn is_about_ours(header: Header, payload: &[u8]) -> bool {
    let after_header = || attributes(payload.get(ADDRESS_HEADER..).unwrap_or_default());
    let device = || decode::link(payload).filter(|link| link.name == NAME);
    match header.kind {
        DELLINK => device().is_some(),
        NEWLINK => device().is_some_and(|link| !link.up),
        NEWADDR | DELADDR => {
            after_header().any(|it| it.kind == IFA_LABEL && it.text() == Some(NAME))
        }
        NEWROUTE | DELROUTE => payload.get(5) == Some(&ROUTE_PROTOCOL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::netlink::Attributes;

    const IFLA_IFNAME: u16 = 3;

    fn header(kind: u16) -> Header {
        Header { kind, flags: 0, sequence: 0, port: 0 }
    }

    fn message(head: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        Attributes::new(&mut bytes).bytes(attribute, value);
        bytes
    }

    #[test]
    fn only_what_is_ours_is_meant() {
        let link = |up: u8| {
            let head = [0, 0, 0, 0, 0, 0, 0, 0, up, 0, 0, 0, 0, 0, 0, 0];
            message(&head, IFLA_IFNAME, b"kube-ipvs\0")
        };
        assert!(is_about_ours(header(DELLINK), &link(1)));
        assert!(is_about_ours(header(NEWLINK), &link(0)));
        assert!(!is_about_ours(header(NEWLINK), &link(1)));
        let route = |protocol| [2, 32, 0, 0, 255, protocol, 0, 2, 0, 0, 0, 0];
        assert!(is_about_ours(header(DELROUTE), &route(ROUTE_PROTOCOL)));
        assert!(!is_about_ours(header(DELROUTE), &route(2)));
    }

    proptest! {
        #[test]
        fn any_notification_can_be_read(kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_about_ours(header(kind), &bytes);
        }
    }
}
