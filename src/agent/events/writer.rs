//! EventRecorder as Events of the API server.
//!
//! `kube`'s own recorder names each Event by the time: the same mistake would make an Event for
//! every node, and one more whenever an agent is started anew. Here the name follows from what is
//! told.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube_ipvs_core::model::{Limiter, NAME, Name, cut};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::{EventQueue, InvolvedObject, ReportedEvent, add};
use crate::agent::metrics::Metrics;
use crate::source::kubernetes::Clients;

/// How long the API server may take for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits between attempts to tell one notice.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// Longest `note` that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Events whose counts are kept in mind.
const MOST_COUNTED: usize = 1000;

/// Writes notices as Events.
pub struct EventWriter {
    clients: Clients,
    node: Name,
    metrics: Arc<Metrics>,
    quiet: Duration,
    /// How often what was told, by namespace and name of its Event.
    counts: HashMap<(String, String), i32>,
    is_refused: bool,
}

/// Why an Event was not written.
enum WriteError {
    /// It never will be.
    Refused {
        /// HTTP status code.
        code: u16,
        /// Why.
        message: String,
    },
    /// Another time, perhaps.
    Unreachable(String),
}

impl EventWriter {
    /// Writes Events for the node of that name; about one object and reason not more often than
    /// `quiet` says, for which there is [`QUIET`](super::QUIET).
    #[must_use]
    pub fn new(clients: Clients, node: Name, metrics: Arc<Metrics>, quiet: Duration) -> Self {
        Self { clients, node, metrics, quiet, counts: HashMap::new(), is_refused: false }
    }

    /// Writes what comes, for as long as something may come.
    pub async fn run(mut self, mut notices: EventQueue) {
        let mut limiter = Limiter::new(self.quiet);
        loop {
            while let Some((_, notice, count)) = limiter.next(Instant::now()) {
                self.publish(&notice, count).await;
            }
            let due = limiter.next_due(Instant::now());
            let wait = async {
                match due {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                notice = notices.recv() => {
                    let Some(notice) = notice else { return };
                    if !add(&mut limiter, (notice.about.clone(), notice.reason), notice) {
                        self.metrics.notice_dropped();
                    }
                }
                () = wait => {}
            }
        }
    }

    async fn publish(&mut self, notice: &ReportedEvent, count: u32) {
        let mut pauses = PAUSES.into_iter();
        loop {
            match self.write(notice, count).await {
                Ok(is_written) => {
                    if is_written {
                        self.is_refused = false;
                        self.metrics.notice_published();
                    }
                    return;
                }
                Err(WriteError::Unreachable(error)) => match pauses.next() {
                    Some(pause) => {
                        debug!("Event not written: {error}; will be tried again");
                        sleep(pause).await;
                    }
                    None => return self.give_up(&error),
                },
                Err(WriteError::Refused { message, .. }) => return self.give_up(&message),
            }
        }
    }

    fn give_up(&mut self, error: &str) {
        self.metrics.notice_refused();
        if !self.is_refused {
            warn!(
                "Events cannot be written: {error}; may this agent create and patch events of \
                 events.k8s.io? The log has them in any case"
            );
        }
        self.is_refused = true;
    }

    /// Says whether there still is an object to write an Event on.
    async fn write(&mut self, notice: &ReportedEvent, count: u32) -> Result<bool, WriteError> {
        let Some(regarding) = self.regarding(&notice.about).await? else { return Ok(false) };
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.clients.current().clone(), &namespace);
        let name = self.name(notice, &regarding);
        let key = (namespace, name);
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let before = self.counts.get(&key).copied();
        let total = before.unwrap_or(0).saturating_add(count);
        let series = (total > 1)
            .then(|| EventSeries { count: total, last_observed_time: MicroTime(Timestamp::now()) });
        let is_patched = match (before, &series) {
            (Some(_), Some(series)) => {
                let patch = Patch::Merge(serde_json::json!({ "series": series }));
                match ask(events.patch(&key.1, &PatchParams::default(), &patch)).await {
                    Ok(_) => true,
                    // The server forgets Events after an hour or so.
                    Err(WriteError::Refused { code: 404, .. }) => false,
                    Err(failure) => return Err(failure),
                }
            }
            _ => false,
        };
        if !is_patched {
            let event = self.event(notice, regarding, &key, series);
            match ask(events.create(&PostParams::default(), &event)).await {
                // Another node has told the same, or this one before it was started anew.
                Ok(_) | Err(WriteError::Refused { code: 409, .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        if self.counts.len() >= MOST_COUNTED {
            self.counts.clear();
        }
        self.counts.insert(key, total);
        Ok(true)
    }

    /// The object as Events refer to it; `None` if it is gone. `kubectl describe` finds Events by
    /// the object's UID, which nothing else here needs.
    async fn regarding(
        &self,
        about: &InvolvedObject,
    ) -> Result<Option<ObjectReference>, WriteError> {
        let of = |kind: &str, name: &str| ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        match about {
            // The kubelet, and with it everybody, takes a Node's name for its UID.
            InvolvedObject::Node => {
                let uid = Some(self.node.to_string());
                Ok(Some(ObjectReference { uid, ..of("Node", &self.node) }))
            }
            InvolvedObject::Service(service) => {
                let services: Api<Service> =
                    Api::namespaced(self.clients.current().clone(), service.namespace());
                // Listing is what we may do; getting is not.
                let named = format!("metadata.name={}", service.name());
                let params = ListParams::default().fields(&named);
                let found = ask(services.list_metadata(&params)).await?.items.into_iter().next();
                Ok(found.map(|found| ObjectReference {
                    namespace: Some(service.namespace().to_owned()),
                    uid: found.metadata.uid,
                    ..of("Service", service.name())
                }))
            }
        }
    }

    /// The same for the same notice: of all nodes, where it is so on all of them.
    fn name(&self, notice: &ReportedEvent, regarding: &ObjectReference) -> String {
        let mut hasher = DefaultHasher::new();
        (notice.reason.name(), &notice.message, &regarding.uid).hash(&mut hasher);
        if notice.reason.is_of_node() {
            self.node.hash(&mut hasher);
        }
        format!("{}.{:016x}", regarding.name.as_deref().unwrap_or_default(), hasher.finish())
    }

    fn event(
        &self,
        notice: &ReportedEvent,
        regarding: ObjectReference,
        (namespace, name): &(String, String),
        series: Option<EventSeries>,
    ) -> Event {
        let note = match (&notice.about, notice.reason.is_of_node()) {
            (InvolvedObject::Service(_), true) => format!("node {}: {}", self.node, notice.message),
            _ => notice.message.clone(),
        };
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some("Warning".to_owned()),
            reason: Some(notice.reason.name().to_owned()),
            action: Some(notice.reason.action().to_owned()),
            note: Some(cut(&note, LONGEST_NOTE).to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some(NAME.to_owned()),
            reporting_instance: Some(self.node.to_string()),
            series,
            ..Event::default()
        }
    }
}

/// What the API server answers.
async fn ask<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
            let (code, message) = (status.code, status.message);
            if code == 429 {
                Err(WriteError::Unreachable(message))
            } else {
                Err(WriteError::Refused { code, message })
            }
        }
        Ok(Err(error)) => Err(WriteError::Unreachable(error.to_string())),
        Err(_) => Err(WriteError::Unreachable(format!("no answer within {PATIENCE:?}"))),
    }
}
