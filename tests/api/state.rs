//! What the server's parts share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::store::Store;

/// Whether a list may come as a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StreamingLists {
    #[default]
    Served,
    /// As a server that has them switched off: 422.
    Refused,
    /// As a server that has never heard of them: it takes the request for a plain watch.
    Unknown,
}

/// How a version that is gone is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gone {
    /// 200, and an error event.
    #[default]
    InStream,
    /// Status 410.
    AtStart,
}

/// Which encodings the server offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Offer {
    #[default]
    Both,
    /// As a server that knows no protobuf, and takes what of `Accept` it knows.
    Json,
    /// As one that is put off by what it does not know: 406.
    JsonAlone,
}

#[derive(Default)]
pub struct Faults {
    pub offer: Offer,
    pub outage: bool,
    pub latency: Duration,
    pub streaming: StreamingLists,
    pub gone: Gone,
    /// By collection: status code, and the seconds after which to come again.
    pub refused: BTreeMap<String, (u16, Option<u64>)>,
    /// Collections whose next answer is cut after so many bytes.
    pub cuts: Vec<(String, usize)>,
    /// The collection whose watches end at once.
    pub ended: Option<String>,
}

#[derive(Default)]
pub struct State {
    pub store: Store,
    pub faults: Faults,
    pub requests: Vec<String>,
    /// Bytes of all bodies so far.
    pub sent: usize,
    /// Open watches by collection.
    pub watches: BTreeMap<String, usize>,
    /// What is left of lists that were asked for page by page.
    pub pages: BTreeMap<String, Vec<Value>>,
    /// Where the ports of pods lead, by `namespace/name`.
    pub forwards: BTreeMap<String, SocketAddr>,
}

pub struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    /// Counts how often all connections were broken.
    broken: watch::Sender<u64>,
    /// How many connections are open, by how often all were broken before.
    open: Mutex<BTreeMap<u64, usize>>,
}

impl Default for Shared {
    fn default() -> Self {
        let (changed, broken) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { state: Mutex::default(), changed, broken, open: Mutex::default() }
    }
}

impl Shared {
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    /// Changes something and wakes all that wait for changes.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Changes something without waking.
    pub fn note<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Breaks all connections; returns when they are broken.
    pub fn break_connections(&self) {
        self.broken.send_modify(|count| *count += 1);
        let now = *self.broken.borrow();
        while self.open.lock().unwrap().range(..now).any(|(_, open)| *open > 0) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Counts a connection that is open for as long as the guard lives.
    pub fn connection(self: &Arc<Self>) -> Connection {
        let mut breaks = self.broken.subscribe();
        let since = *breaks.borrow_and_update();
        *self.open.lock().unwrap().entry(since).or_default() += 1;
        Connection { shared: Arc::clone(self), since, breaks }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A connection.
pub struct Connection {
    shared: Arc<Shared>,
    since: u64,
    breaks: watch::Receiver<u64>,
}

impl Connection {
    /// Waits until it is to break.
    pub async fn broken(&mut self) {
        let _ = self.breaks.changed().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(open) = self.shared.open.lock().unwrap().get_mut(&self.since) {
            *open -= 1;
        }
    }
}
