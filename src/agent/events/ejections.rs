//! Events about endpoints that do not answer.

use kube_ipvs_core::model::EndpointName;
use kube_ipvs_core::plan::Ejection;

use super::{EventReason, InvolvedObject, ReportedEvent};

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
