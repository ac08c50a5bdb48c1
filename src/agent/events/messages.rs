//! The events about Services: refused front ends, ignored options, operations that the kernel keeps
//! rejecting, and endpoints that do not answer.

use std::collections::{BTreeMap, BTreeSet};

use kube_ipvs_core::engine::SyncError;
use kube_ipvs_core::model::{
    EndpointName, Family, FrontendKind, Refusal, RefusalReason, ServiceKey, VirtualAddress,
};
use kube_ipvs_core::plan::{Ejection, FailureKind};

use super::{EventReason, InvolvedObject, ReportedEvent};

/// The number of front ends in a message.
const MOST_NAMED: usize = 5;
/// The number of consecutive failures after which a failure counts as lasting.
const LASTING: u32 = 4;

/// Returns one event per reason: a load balancer with ten ports and an invalid address is one
/// mistake, not ten. `owner` returns the Service that owns a front end.
#[must_use]
pub fn of_refusals<'a>(
    service: &ServiceKey,
    refusals: &[Refusal],
    owner: impl Fn(&VirtualAddress) -> Option<&'a ServiceKey>,
) -> Vec<ReportedEvent> {
    let mut by_cause = BTreeMap::<_, BTreeSet<_>>::new();
    // The Service's own choice needs no report.
    for refusal in refusals.iter().filter(|it| it.reason != RefusalReason::NotServed) {
        let cause = (reason(&refusal.reason), refusal.because(&owner));
        by_cause.entry(cause).or_default().insert(place(refusal));
    }
    let events = by_cause.into_iter().map(|((reason, cause), places)| ReportedEvent {
        about: InvolvedObject::Service(service.clone()),
        reason,
        message: format!("not served at {}: {cause}; {}", list(&places), remedy(reason)),
    });
    events.collect()
}

/// Returns an event about options of a Service that have no effect.
#[must_use]
pub fn of_ignored(service: &ServiceKey, reasons: &[String]) -> Option<ReportedEvent> {
    (!reasons.is_empty()).then(|| ReportedEvent {
        about: InvolvedObject::Service(service.clone()),
        reason: EventReason::OptionIgnored,
        message: reasons.join("; "),
    })
}

/// Returns the event of a lasting failure: such failures concern more than the readers of the log.
#[must_use]
pub fn of_failure(
    about: InvolvedObject,
    error: &SyncError,
    name: &EndpointName,
) -> Option<ReportedEvent> {
    let SyncError { failure, attempts, .. } = error;
    let is_lasting = failure.kind == FailureKind::Refused && *attempts >= LASTING;
    is_lasting.then(|| ReportedEvent {
        about,
        reason: EventReason::KernelRejected,
        message: format!(
            "the kernel rejects `{}`{name}: {failure}; tried {attempts} times, will be retried",
            error.command()
        ),
    })
}

/// Returns an event about an endpoint that is ejected. Its message has no figures that change, so
/// that repetitions are counted as such.
#[must_use]
pub fn of_ejection(
    about: InvolvedObject,
    ejection: &Ejection,
    name: &EndpointName,
) -> ReportedEvent {
    let Ejection { server, backend, .. } = ejection;
    let message = format!(
        "endpoint {}{name} of the pool at {server} answers no new connection, and gets none from this node \
         until it answers; check its pod, its node and the network between this node and it",
        backend.socket(),
    );
    ReportedEvent { about, reason: EventReason::EndpointEjected, message }
}

fn reason(reason: &RefusalReason) -> EventReason {
    match reason {
        RefusalReason::Listened | RefusalReason::Protected => EventReason::AddressOfNode,
        RefusalReason::LocalSocket => EventReason::AddressOnDevice,
        RefusalReason::ApiServer => EventReason::AddressOfApiServer,
        RefusalReason::ServiceRange => EventReason::AddressInServiceRange,
        RefusalReason::ShadowRange | RefusalReason::NoShadow => EventReason::AddressInShadowRange,
        RefusalReason::Taken(_) => EventReason::AddressTaken,
        RefusalReason::NotServed => EventReason::OptionIgnored,
    }
}

fn remedy(reason: EventReason) -> &'static str {
    match reason {
        EventReason::AddressTaken => "give one of the two another address or port",
        EventReason::AddressOnDevice => {
            "right for a DNS cache on the node; otherwise remove the address from the device"
        }
        EventReason::AddressOfNode | EventReason::AddressOfApiServer => {
            "give the Service another address or port"
        }
        _ => "give the Service another address",
    }
}

/// Returns a refused front end. A node port is refused at all addresses of all nodes.
fn place(refusal: &Refusal) -> (FrontendKind, VirtualAddress) {
    let Refusal { address, kind, .. } = *refusal;
    match kind {
        FrontendKind::NodePort => {
            (kind, VirtualAddress::node_port(Family::V4, address.port, address.protocol))
        }
        kind => (kind, address),
    }
}

fn list(places: &BTreeSet<(FrontendKind, VirtualAddress)>) -> String {
    let name = |(kind, address): &(FrontendKind, VirtualAddress)| match kind {
        FrontendKind::NodePort => format!("node port {}/{}", address.port, address.protocol),
        kind => format!("{kind} {address}"),
    };
    let named = places.iter().take(MOST_NAMED).map(name).collect::<Vec<_>>().join(", ");
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
    fn refusals_of_one_service_make_one_event() {
        let web = ServiceKey::new("default", "web");
        let older = ServiceKey::new("default", "older");
        let taken = RefusalReason::Taken("0.0.0.0:30080".parse().expect("address"));
        let (external, node_port) = (FrontendKind::ExternalIp, FrontendKind::NodePort);
        let refusals: Vec<_> = (80..87)
            .map(|port| refusal(&format!("192.0.2.1:{port}"), external, RefusalReason::Listened))
            .chain(["0.0.0.0:30080", "[::]:30080"].map(|it| refusal(it, node_port, taken)))
            .collect();
        let events = of_refusals(&web, &refusals, |_| Some(&older));
        let messages: Vec<_> = events.iter().map(|it| (it.reason.name(), &*it.message)).collect();
        assert_eq!(
            messages,
            [
                (
                    "AddressOfNode",
                    "not served at ExternalIP 192.0.2.1:80/tcp, ExternalIP 192.0.2.1:81/tcp, \
                     ExternalIP 192.0.2.1:82/tcp, ExternalIP 192.0.2.1:83/tcp, ExternalIP \
                     192.0.2.1:84/tcp and 2 more: the address is this node's own, and a \
                     process or tunnel of the node listened there first; give the Service another \
                     address or port"
                ),
                (
                    "AddressTaken",
                    "not served at node port 30080/tcp: Service default/older already has it; \
                     give one of the two another address or port"
                ),
            ]
        );
    }
}
