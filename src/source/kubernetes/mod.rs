//! Objects from the Kubernetes API: a list of each kind, then what changes of it.
//!
//! The client (TLS, credentials, kubeconfig) is `kube`'s. Lists and watches are our own, because
//! `kube::runtime::watcher` cannot be kept from these: it opens a watch anew without a pause
//! where a server ends it at once; it asks for ever for a version that is gone where the server
//! says so at the start; it does not turn to plain lists where a server streams none; it takes
//! the whole list for broken where one object is; and its lists may go back in time. Here
//!
//! - a list comes as a watch where the server knows how (KEP-3157), else from its cache;
//! - a watch that ends, in whatever way, goes on from the last version seen, after a pause that
//!   grows where nothing came of it;
//! - a version that is gone leads to a new list, not older than what was seen;
//! - a server that keeps silent for long is taken for lost, and asked anew;
//! - objects come as protobuf where the server offers it, else as JSON;
//! - an object out of shape is told of, once, and costs no other one.

mod answer;
mod backoff;
mod client;
mod decode;
mod kubeconfig;
mod list;
mod list_reader;
mod proxy;
mod reflector;
mod rejection_log;
mod resource;
mod server;

use std::time::Duration;

use bytes::Bytes;
use kube_ipvs_core::model::{Event, Name, Settings};

pub use client::{ApiAccess, Clients, ConnectError, connect};
pub use decode::Encoding;
use reflector::Reflector;
pub use server::{FIND_AGAIN, Server, ThroughService, run_from, service_ranges, watch};

use resource::{OwnNode, ServiceCidrs, Services, Slices};

/// How long things may take, and how long we wait before we ask again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Wait after a first failure. Doubles with each further one; all waits are shortened at
    /// random, by up to a half.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for more (`Retry-After`).
    pub longest_wait: Duration,
    /// The longest that it is left alone at its own wish.
    pub longest_retry: Duration,
    /// Wait before a resource that the server does not have is asked for again.
    pub absent_wait: Duration,
    /// The longest time that we ask a watch to last; a random part of up to a half is taken off.
    pub longest_watch: Duration,
    /// A server that says nothing for so long is lost. It says something once a minute: a
    /// bookmark, if nothing else.
    pub silence: Duration,
    /// The same within a list that comes as a watch.
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

/// What following objects takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchRequest {
    /// A complete list.
    List,
    /// A watch that goes on from an earlier list or watch.
    Watch,
    /// Something that failed.
    Failure,
}

/// Reads a text as a page of a list and as an event of a watch, of each kind. Returns how many
/// objects came of it. Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn decode(encoding: Encoding, text: &[u8]) -> usize {
    let text = &Bytes::copy_from_slice(text);
    list_reader::decode::<Services>(encoding, text)
        + list_reader::decode::<Slices>(encoding, text)
        + list_reader::decode::<OwnNode>(encoding, text)
        + list_reader::decode::<ServiceCidrs>(encoding, text)
}

/// Follows Services, EndpointSlices, ServiceCIDRs and the own Node. `deliver` gets the complete
/// list of each kind first, single changes after, and a complete list again where changes may have
/// been missed. Failures are retried for ever; ends when `deliver` says that nobody listens any
/// more. `note` is told, by kind, what it takes.
pub async fn run(
    clients: Clients,
    settings: &Settings,
    patience: Timeouts,
    deliver: impl Fn(Event) -> bool,
    note: impl Fn(&'static str, WatchRequest),
) {
    let own_node = OwnNode(Name::clone(&settings.node_name));
    let services = Services(settings.service_proxy_name.clone());
    let (clients, patience, deliver, note) = (&clients, &patience, &deliver, &note);
    // The first that finds nobody listening ends them all.
    tokio::select! {
        _ = Reflector::new(&own_node, clients, patience, deliver, note).run() => {}
        _ = Reflector::new(&ServiceCidrs, clients, patience, deliver, note).run() => {}
        _ = Reflector::new(&services, clients, patience, deliver, note).run() => {}
        _ = Reflector::new(&Slices, clients, patience, deliver, note).run() => {}
    }
}
