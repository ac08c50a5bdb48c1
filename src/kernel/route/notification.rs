//! Notifications of changes to devices, addresses and routes.

use kube_ipvs_core::model::{DEVICE, Family, ROUTE_PROTOCOL};
use netlink_ipvs::{Header, attributes};

use super::decode;
use crate::kernel::family;

pub(super) const NEWLINK: u16 = 16;
pub(super) const DELLINK: u16 = 17;
pub(super) const NEWADDR: u16 = 20;
pub(super) const DELADDR: u16 = 21;
pub(super) const NEWROUTE: u16 = 24;
pub(super) const DELROUTE: u16 = 25;
/// `RT_SCOPE_UNIVERSE`
const SCOPE_UNIVERSE: u8 = 0;
const IFA_LABEL: u16 = 3;

/// Returns whether a notification is about our device or routes.
pub(in crate::kernel) fn is_about_ours(header: Header, payload: &[u8]) -> bool {
    let after_header =
        || attributes(payload.get(decode::ADDRESS_HEADER_BYTES..).unwrap_or_default());
    match header.kind {
        DELLINK => decode::link(payload).is_some_and(|link| link.name == DEVICE),
        NEWADDR | DELADDR => {
            after_header().any(|it| it.kind == IFA_LABEL && it.text() == Some(DEVICE))
        }
        NEWROUTE | DELROUTE => payload.get(5) == Some(&ROUTE_PROTOCOL),
        _ => false,
    }
}

/// Returns whether our objects may have changed: the notification is about them, or an IPv6 address
/// is gone. The kernel removes that address as the source of routes without a notification
/// (`fib6_remove_prefsrc`). For IPv4 that does not happen in table `local` (`fib_sync_down_addr`).
/// A link-local address is the source of no route, and each pod that ends takes one along.
pub(in crate::kernel) fn may_change_ours(header: Header, payload: &[u8]) -> bool {
    let is_global_v6 = || {
        payload.first() == Some(&family::number(Family::V6))
            && payload.get(3) == Some(&SCOPE_UNIVERSE)
    };
    is_about_ours(header, payload) || header.kind == DELADDR && is_global_v6()
}

/// Returns what a notification that may change our objects says.
pub(in crate::kernel) fn describe(header: Header, payload: &[u8]) -> Option<String> {
    if !may_change_ours(header, payload) {
        return None;
    }
    Some(match header.kind {
        DELLINK => format!("deleted device {DEVICE}"),
        NEWADDR => format!("added an address to {DEVICE}"),
        DELADDR => "deleted an address".to_owned(),
        kind => {
            let change = if kind == DELROUTE { "deleted" } else { "added" };
            let route = decode::own_route(payload);
            route.map_or_else(
                || format!("{change} a route"),
                |route| format!("{change} route {}", route.prefix),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;
    use proptest::prelude::*;

    use super::*;

    const IFLA_IFNAME: u16 = 3;
    const V6: u8 = 10;

    fn header(kind: u16) -> Header {
        Header { kind, flags: 0, sequence: 0, port: 0 }
    }

    fn message(head: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        Attributes::new(&mut bytes).bytes(attribute, value);
        bytes
    }

    #[test]
    fn only_the_agents_objects_are_matched() {
        let link = message(&[0; 16], IFLA_IFNAME, b"kube-ipvs0\0");
        assert!(is_about_ours(header(DELLINK), &link));
        assert!(!is_about_ours(header(NEWLINK), &link));
        let route = |protocol| [2, 32, 0, 0, 255, protocol, 0, 2, 0, 0, 0, 0];
        assert!(is_about_ours(header(DELROUTE), &route(ROUTE_PROTOCOL)));
        assert!(!is_about_ours(header(DELROUTE), &route(2)));
    }

    #[test]
    fn a_deleted_address_may_have_been_a_source() {
        let address = |family, scope| [family, 64, 0x80, scope, 2, 0, 0, 0];
        let is_gone = |family, scope| may_change_ours(header(DELADDR), &address(family, scope));
        assert!(is_gone(V6, SCOPE_UNIVERSE));
        assert!(!is_gone(V6, 253));
        assert!(!is_gone(2, SCOPE_UNIVERSE));
        assert!(!may_change_ours(header(NEWADDR), &address(V6, SCOPE_UNIVERSE)));
    }

    proptest! {
        #[test]
        fn any_notification_can_be_read(kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = describe(header(kind), &bytes);
        }
    }
}
