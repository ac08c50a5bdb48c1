//! Pairs that differ from what `explain` says although they should not. To be mended, and then
//! taken off: a pair that no longer differs fails the case too.

use kube_ipvs::explain::Verdict;
use kube_ipvs::model::{Family, FrontendKind, Protocol};

use super::comparison::Pair;
use crate::lab::Host;

/// Why a pair is known to differ.
pub(super) fn difference(pair: &Pair) -> Option<&'static str> {
    let to = pair.to();
    let is_external = matches!(
        pair.explained.frontend,
        Some(FrontendKind::ExternalIp | FrontendKind::LoadBalancer)
    );
    let by_icmp = to.protocol != Protocol::Tcp && Family::of(to.ip) == Family::V4;
    let refused = pair.explained.verdict == Verdict::Reject && pair.from != Host::N1;
    // The kernel picks the address that was knocked at as the source of the error, and does not
    // take it for one of its own: its local route stands in another table than `local`.
    (is_external && by_icmp && refused)
        .then_some("no ICMP error leaves an IPv4 address outside of table `local`")
}
