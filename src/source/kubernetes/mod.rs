//! Objects from the Kubernetes API: a list of each kind, then its changes.
//!
//! The client (TLS, credentials, kubeconfig) is `kube`'s. Lists and watches are separate, because
//! `kube::runtime::watcher` does not handle these cases: it reopens a watch without a pause if a
//! server ends it at once; it requests an expired version forever if the server reports this at the
//! start of a watch; it does not fall back to plain lists if a server does not stream them; it
//! rejects a whole list because of one invalid object; and its lists may go back in time. Here
//!
//! - a list arrives as a watch if the server supports it (KEP-3157), otherwise from its cache;
//! - a watch that ends for any reason continues from the last version, after a wait that grows
//!   while there is no progress;
//! - an expired version leads to a new list, not older than what was seen;
//! - a server that stays silent for long counts as lost, and the request is repeated;
//! - objects arrive as protobuf if the server offers it, otherwise as JSON;
//! - an invalid object is reported once and does not affect the others.

mod agents;
mod answer;
mod client;
mod connect_error;
mod decode;
mod kubeconfig;
mod list;
mod object_reader;
mod once;
mod proxy;
mod reflector;
mod rejection_log;
mod server;
mod timeouts;

use std::ops::ControlFlow;

use bytes::Bytes;
use kube::core::params::ListParams;
use kube_ipvs_core::model::{Event, Settings};

pub use agents::{AgentPod, AgentPods, RemoteError};
pub use client::{
    ApiAccess, ApiRequest, Clients, ObserveRequest, connect, connect_observed, connect_user,
    server_urls,
};
pub use connect_error::{ConnectError, reason};
pub use decode::Encoding;
pub use once::{ListOnceError, controls, list, service_ranges};
use reflector::Reflector;
pub use server::{FIND_AGAIN, Server, ThroughService, follow, follow_server};
pub use timeouts::Timeouts;

use crate::source::wire::{
    HEADLESS, NodeObject, SERVICE_PROXY_NAME, ServiceCidrObject, ServiceObject, SliceObject,
};

/// The requests of a reflector and what becomes of them, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchStep {
    List,
    /// A watch that continues from an earlier list or watch.
    Watch,
    /// Something has arrived on a watch, if only a bookmark.
    Event,
    /// A watch has broken, or the server stays silent.
    Lost,
    Failure,
}

/// Reads a text as a page of a list and as an event, for each kind. Returns the number of objects.
/// Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn decode(encoding: Encoding, text: &[u8]) -> usize {
    let text = &Bytes::copy_from_slice(text);
    object_reader::decode::<ServiceObject>(encoding, text)
        + object_reader::decode::<SliceObject>(encoding, text)
        + object_reader::decode::<NodeObject>(encoding, text)
        + object_reader::decode::<ServiceCidrObject>(encoding, text)
}

/// Watches Services, EndpointSlices, ServiceCIDRs and the own Node.
///
/// `deliver` first gets the complete list of each kind, then single changes, and a complete list
/// again if changes may have been missed. Failures are retried forever; the function ends once
/// `deliver` breaks. `note` counts the requests by kind.
pub async fn run(
    clients: Clients,
    settings: &Settings,
    timeouts: Timeouts,
    deliver: impl Fn(Event) -> ControlFlow<()>,
    note: impl Fn(&'static str, WatchStep),
) {
    let all = ListParams::default();
    let own_node = all.clone().fields(&format!("metadata.name={}", settings.node_name));
    let services = services(settings);
    // Nor slices of headless Services.
    let slices = all.clone().labels(&format!("!{HEADLESS}"));
    let (clients, timeouts, deliver, note) = (&clients, &timeouts, &deliver, &note);
    // The first that is no longer heard ends all of them.
    tokio::select! {
        _ = Reflector::<NodeObject>::new(own_node, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<ServiceCidrObject>::new(all, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<ServiceObject>::new(services, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<SliceObject>::new(slices, clients, timeouts, deliver, note).run() => {}
    }
}

/// Selects the Services of this program. Headless Services are not served.
fn services(settings: &Settings) -> ListParams {
    let labels = match &settings.service_proxy_name {
        None => format!("!{SERVICE_PROXY_NAME}"),
        Some(name) => format!("{SERVICE_PROXY_NAME}={name}"),
    };
    ListParams::default().labels(&labels).fields("spec.clusterIP!=None")
}
