//! Front ends that a Service asks for and does not get.

use std::collections::BTreeMap;

use super::{About, Notice, Reason};
use crate::model::{FrontendKind, Refusal, RefusalReason, ServiceKey};

/// Front ends that are named in a notice. More of them have the same reason.
const MOST_NAMED: usize = 5;

/// One notice for each reason: a load balancer with ten ports and an address that it cannot have
/// is one mistake, not ten.
#[must_use]
pub fn of_refusals(service: &ServiceKey, refusals: &[Refusal]) -> Vec<Notice> {
    let mut by_cause: BTreeMap<(Reason, String), Vec<String>> = BTreeMap::new();
    for refusal in refusals {
        let cause = (reason(&refusal.reason), refusal.reason.to_string());
        let places = by_cause.entry(cause).or_default();
        let place = place(refusal);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let notice = |((reason, cause), places): ((Reason, String), Vec<String>)| Notice {
        about: About::Service(service.clone()),
        reason,
        message: format!("not served at {}: {cause}; {}", list(&places), mend(reason)),
    };
    by_cause.into_iter().map(notice).collect()
}

fn reason(reason: &RefusalReason) -> Reason {
    match reason {
        RefusalReason::NodeAddress => Reason::AddressOfNode,
        RefusalReason::ApiServer => Reason::AddressOfApiServer,
        RefusalReason::ServiceRange => Reason::AddressInServiceRange,
        RefusalReason::ImageRange => Reason::AddressInImageRange,
        RefusalReason::Taken(_) => Reason::AddressTaken,
    }
}

fn mend(reason: Reason) -> &'static str {
    match reason {
        Reason::AddressTaken => "give one of the two another address or port",
        _ => "give the Service another address",
    }
}

/// A node port is refused at every address of every node alike.
fn place(refusal: &Refusal) -> String {
    let address = refusal.address;
    match refusal.kind {
        FrontendKind::NodePort => format!("node port {}/{}", address.port, address.protocol),
        kind => format!("{kind} {address}"),
    }
}

fn list(places: &[String]) -> String {
    let named = places.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match places.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(address: &str, kind: FrontendKind, reason: RefusalReason) -> Refusal {
        Refusal { address: address.parse().expect("address"), kind, reason }
    }

    #[test]
    fn one_mistake_is_one_notice() {
        let web = ServiceKey::new("default", "web");
        let taken = || RefusalReason::Taken(ServiceKey::new("default", "older"));
        let (external, node_port) = (FrontendKind::ExternalIp, FrontendKind::NodePort);
        let refusals: Vec<_> = (80..87)
            .map(|port| refusal(&format!("192.0.2.1:{port}"), external, RefusalReason::NodeAddress))
            .chain(["192.0.2.1:30080", "192.0.2.7:30080"].map(|it| refusal(it, node_port, taken())))
            .collect();
        let notices = of_refusals(&web, &refusals);
        let told: Vec<_> = notices.iter().map(|it| (it.reason.name(), &*it.message)).collect();
        assert_eq!(
            told,
            [
                (
                    "AddressOfNode",
                    "not served at ExternalIP 192.0.2.1:80/tcp, ExternalIP 192.0.2.1:81/tcp, \
                     ExternalIP 192.0.2.1:82/tcp, ExternalIP 192.0.2.1:83/tcp, ExternalIP \
                     192.0.2.1:84/tcp and 2 more: the address is this node's own; give the \
                     Service another address"
                ),
                (
                    "AddressTaken",
                    "not served at node port 30080/tcp: Service default/older has it already; \
                     give one of the two another address or port"
                ),
            ]
        );
    }
}
