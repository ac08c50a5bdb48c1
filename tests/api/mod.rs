//! A stand-in for the Kubernetes API server, in this process.
//!
//! It keeps objects in memory and serves lists and watches of them as the real server does:
//! resource versions, pages, label and field selectors (an object that stops matching is told as
//! deleted), bookmarks, lists that come as a watch, versions that are gone or not there yet; in JSON
//! and protobuf, over plain HTTP or TLS with a bearer token. And it fails on demand, in the ways that servers, and
//! what stands before them, fail.
//!
//! ```ignore
//! let server = ApiServer::start();
//! server.put(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { … }, "spec": { … } }));
//! fs::write(path, server.kubeconfig())?;      // for `kube-ipvs run --kubeconfig`
//! server.delete("/api/v1/services", "default/web");
//! server.set_outage(true);                    // connections break, and none is taken
//! ```
//!
//! It runs on a thread of its own until it is dropped, so that tests need no runtime. Any kind of
//! object is served, at the path that follows from its `apiVersion` and `kind`.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used)]

mod answer;
mod body;
mod discovery;
mod forward;
pub mod objects;
pub mod patch;
pub mod protobuf;
pub mod real;
mod selector;
mod serve;
mod state;
mod store;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use state::Shared;
pub use state::{Gone, Offer, StreamingLists};
use tls::Identity;
use tokio::sync::oneshot;

pub const SERVICES: &str = "/api/v1/services";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub const NODES: &str = "/api/v1/nodes";
pub const EVENTS: &str = "/apis/events.k8s.io/v1/events";
pub const SERVICE_CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// What a client of the server with TLS must show.
const TOKEN: &str = "stand-in";

/// The server.
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    identity: Option<Identity>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// Serves plain HTTP at a port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Serves TLS, and only those who show the token of the kubeconfig.
    pub fn start_tls() -> Self {
        Self::start_with(Some(Identity::new()))
    }

    fn start_with(identity: Option<Identity>) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = serve::Serving {
            shared: Arc::clone(&shared),
            acceptor: identity.as_ref().map(Identity::acceptor),
        };
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serving.run(listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { shared, address, identity, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        let mut cluster = json!({ "server": self.url() });
        let mut user = json!({});
        if let Some(identity) = &self.identity {
            cluster["certificate-authority-data"] = identity.authority_base64();
            user["token"] = TOKEN.into();
        }
        // JSON is YAML.
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "stand-in", "cluster": cluster }],
            "users": [{ "name": "node", "user": user }],
            "contexts": [{ "name": "it", "context": { "cluster": "stand-in", "user": "node" } }],
            "current-context": "it",
        })
        .to_string()
    }

    /// Creates an object, or replaces the one of its kind and name. Returns its new version.
    pub fn put(&self, object: Value) -> u64 {
        self.shared.change(|state| state.store.put(object))
    }

    /// Puts something that need not look like an object.
    pub fn put_odd(&self, collection: &str, key: &str, object: Value) -> u64 {
        self.shared.change(|state| state.store.put_at(collection, key, object))
    }

    /// Deletes an object by `namespace/name`, or by its name where the kind has no namespaces.
    pub fn delete(&self, collection: &str, key: &str) {
        self.shared.change(|state| state.store.delete(collection, key));
    }

    /// The objects of a collection, for what clients have created.
    pub fn objects(&self, collection: &str) -> Vec<Value> {
        self.shared.read(|state| state.store.all(collection))
    }

    /// Forgets all versions before the present one, and pages that were not asked for yet.
    pub fn compact(&self) {
        self.shared.change(|state| state.store.compact());
    }

    /// Goes back in versions, as a server whose data is restored from a backup.
    pub fn restore_version(&self, version: u64) {
        self.shared.change(|state| state.store.restore(version));
    }

    /// Sends a bookmark to every watch.
    pub fn bookmark(&self) {
        self.shared.change(|state| state.store.bookmark());
    }

    /// Ends every watch with an error event.
    pub fn fail_watches(&self, code: u16, message: &str) {
        self.shared.change(|state| state.store.fail(code, message));
    }

    /// Breaks all connections.
    pub fn disconnect(&self) {
        self.shared.break_connections();
    }

    /// While it lasts, connections break and none is taken.
    pub fn set_outage(&self, outage: bool) {
        self.shared.change(|state| state.faults.outage = outage);
        self.shared.break_connections();
    }

    /// Breaks the connection of the next answer for a collection after that many bytes of its body.
    pub fn cut_next(&self, collection: &str, bytes: usize) {
        self.shared.change(|state| state.faults.cuts.push((collection.to_owned(), bytes)));
    }

    /// Ends watches of a collection in order, as soon as they have begun.
    pub fn set_end_watches(&self, collection: &str, end: bool) {
        self.shared.change(|state| state.faults.ended = end.then(|| collection.to_owned()));
    }

    /// Takes requests, but says nothing for so long.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.change(|state| state.faults.latency = latency);
    }

    /// Refuses a collection with a status code; 200 serves it again.
    pub fn refuse(&self, collection: &str, code: u16) {
        self.shared.change(|state| match code {
            200 => state.faults.refused.remove(collection),
            code => state.faults.refused.insert(collection.to_owned(), (code, None)),
        });
    }

    /// Refuses a collection with 429, and asks to be left alone for so long.
    pub fn refuse_for(&self, collection: &str, seconds: u64) {
        let refusal = (429, Some(seconds));
        self.shared.change(|state| state.faults.refused.insert(collection.to_owned(), refusal));
    }

    pub fn set_streaming_lists(&self, streaming: StreamingLists) {
        self.shared.change(|state| state.faults.streaming = streaming);
    }

    pub fn set_offer(&self, offer: Offer) {
        self.shared.change(|state| state.faults.offer = offer);
    }

    /// How a version that is gone is told.
    pub fn set_gone(&self, gone: Gone) {
        self.shared.change(|state| state.faults.gone = gone);
    }

    /// Forwards a port of a pod, by `namespace/name`, to an address.
    pub fn forward(&self, pod: &str, to: SocketAddr) {
        self.shared.change(|state| state.forwards.insert(pod.to_owned(), to));
    }

    /// The requests so far, as `METHOD path?query`, decoded.
    pub fn requests(&self) -> Vec<String> {
        self.shared.read(|state| state.requests.clone())
    }

    /// Bytes of all answers so far, without their headers.
    pub fn sent(&self) -> usize {
        self.shared.read(|state| state.sent)
    }

    /// How many watches of a collection are open.
    pub fn watches(&self, collection: &str) -> usize {
        self.shared.read(|state| state.watches.get(collection).copied().unwrap_or_default())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
