//! Numbers of address families, and the header of netfilter's messages.

use kube_ipvs_core::model::Family;
use netlink_ipvs::Attributes;

/// Returns `AF_INET` or `AF_INET6`; `NFPROTO_IPV4` and `NFPROTO_IPV6` are the same numbers.
pub(crate) fn number(family: Family) -> u8 {
    *family.pick(&[2, 10])
}

/// Returns the family of an `AF_*`; `None` for a family that Services cannot have.
pub(super) fn of_number(of: u8) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| number(*family) == of)
}

/// Writes `struct nfgenmsg`, which precedes the attributes of every message of netfilter.
pub(crate) fn netfilter_header(message: &mut Attributes<'_>, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    message.raw(&[family, 0, high, low]);
}

/// Reads the family in `struct nfgenmsg`, and the attributes after it.
pub(crate) fn netfilter_message(payload: &[u8]) -> Option<(u8, &[u8])> {
    let ([family, ..], attributes) = payload.split_first_chunk::<4>()?;
    Some((*family, attributes))
}
