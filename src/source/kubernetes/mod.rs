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
mod backoff;
mod client;
mod connect_error;
mod decode;
mod kubeconfig;
mod list;
mod measured;
mod object_reader;
mod once;
mod proxy;
mod reflector;
mod rejection_log;
mod server;

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use kube::core::params::ListParams;
use kube_ipvs_core::model::{Event, Settings};

pub use agents::{AgentPod, AgentPods, RemoteError};
pub use client::{ApiAccess, Clients, connect, connect_observed, connect_user, server_urls};
pub use connect_error::ConnectError;
pub use decode::Encoding;
pub use measured::{ApiRequest, ObserveRequest};
pub use once::{ListOnceError, list};
use reflector::Reflector;
pub use server::{
    FIND_AGAIN, Server, ThroughService, controls, follow, follow_server, service_ranges,
};

use crate::source::wire::{
    HEADLESS, NodeObject, SERVICE_PROXY_NAME, ServiceCidrObject, ServiceObject, SliceObject,
};

/// Timeouts of requests, and waits between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// After the first failure. Doubles with each further one; all waits are shortened at random by
    /// up to a half.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for more (`Retry-After`).
    pub longest_wait: Duration,
    /// Upper bound for `Retry-After`.
    pub longest_retry: Duration,
    /// Before another request for a resource that the server does not have.
    pub absent_wait: Duration,
    /// The requested duration of a watch; it is shortened at random by up to a half.
    pub longest_watch: Duration,
    /// A server that is silent for this long counts as lost. It sends at least a bookmark every
    /// minute.
    pub silence: Duration,
    /// The same within a list that arrives as a watch.
    pub silence_in_list: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(300),
            longest_wait: Duration::from_secs(30),
            longest_retry: Duration::from_secs(600),
            absent_wait: Duration::from_secs(600),
            longest_watch: Duration::from_secs(600),
            silence: Duration::from_secs(90),
            silence_in_list: Duration::from_secs(15),
        }
    }
}

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
        _ = Reflector::<NodeObject, _, _>::new(own_node, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<ServiceCidrObject, _, _>::new(all, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<ServiceObject, _, _>::new(services, clients, timeouts, deliver, note).run() => {}
        _ = Reflector::<SliceObject, _, _>::new(slices, clients, timeouts, deliver, note).run() => {}
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
