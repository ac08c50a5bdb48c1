//! Writes events to the API server.
//!
//! `kube`'s own recorder names each Event by the time: the same mistake would create an Event per
//! node, and another after each restart of an agent. Here the name is derived from the content.

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
use kube_ipvs_core::model::{Limiter, NAME, Name, cut, one_line};
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::{EventQueue, InvolvedObject, ReportedEvent, add};
use crate::agent::metrics::Metrics;
use crate::source::kubernetes::{Clients, reason};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The waits between attempts to write an event.
const RETRY_WAITS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// The API server's limit of `note`, in bytes.
const LONGEST_NOTE: usize = 1024;
/// The number of Events with a recorded count.
const MOST_COUNTED: usize = 1000;

pub struct EventWriter {
    clients: Clients,
    node: Name,
    metrics: Arc<Metrics>,
    quiet: Duration,
    /// The counts of written Events, by namespace and name.
    counts: HashMap<(String, String), i32>,
    is_refused: bool,
}

enum WriteError {
    /// A retry would not help.
    Refused { code: u16, message: String },
    /// A retry may help.
    Unreachable(String),
}

impl EventWriter {
    /// Returns a writer for this node. An Event with the same object and reason is written at most
    /// once per `quiet`; the agent uses [`QUIET`](super::QUIET).
    #[must_use]
    pub fn new(clients: Clients, node: Name, metrics: Arc<Metrics>, quiet: Duration) -> Self {
        Self { clients, node, metrics, quiet, counts: HashMap::new(), is_refused: false }
    }

    /// Writes events until all recorders are gone.
    pub async fn run(mut self, mut events: EventQueue) {
        let mut limiter = Limiter::new(self.quiet);
        loop {
            while let Some((_, event, count)) = limiter.next(Instant::now()) {
                self.publish(&event, count).await;
            }
            let due = limiter.next_due(Instant::now());
            let wait = async {
                match due {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    if !add(&mut limiter, (event.about.clone(), event.reason), event) {
                        self.metrics.event_dropped.inc();
                    }
                }
                () = wait => {}
            }
        }
    }

    async fn publish(&mut self, event: &ReportedEvent, count: u32) {
        let mut waits = RETRY_WAITS.into_iter();
        loop {
            match self.write(event, count).await {
                Ok(is_written) => {
                    if is_written {
                        self.is_refused = false;
                        self.metrics.event_published.inc();
                    }
                    return;
                }
                Err(WriteError::Unreachable(error)) => match waits.next() {
                    Some(wait) => {
                        debug!("Event not written: {error}; will be retried");
                        sleep(wait).await;
                    }
                    None => return self.give_up(&error),
                },
                Err(WriteError::Refused { message, .. }) => return self.give_up(&message),
            }
        }
    }

    fn give_up(&mut self, error: &str) {
        self.metrics.event_refused.inc();
        if !self.is_refused {
            warn!(
                "Events cannot be written: {error}; does RBAC allow the agent to create and patch \
                 events of events.k8s.io? The log has them, too"
            );
        }
        self.is_refused = true;
    }

    /// Returns whether the object still exists.
    async fn write(&mut self, event: &ReportedEvent, count: u32) -> Result<bool, WriteError> {
        let Some(regarding) = self.regarding(&event.about).await? else { return Ok(false) };
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.clients.current().clone(), &namespace);
        let name = self.name(event, &regarding);
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
                    // The server forgets Events after about an hour.
                    Err(WriteError::Refused { code: 404, .. }) => false,
                    Err(failure) => return Err(failure),
                }
            }
            _ => false,
        };
        if !is_patched {
            let event = self.event(event, regarding, &key, series);
            match ask(events.create(&PostParams::default(), &event)).await {
                // Another node has written the same Event, or this one did before a restart.
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

    /// Returns the reference to the object; `None` if it is gone. `kubectl describe` finds Events
    /// by the object's UID, which is not needed elsewhere.
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
            // The kubelet and other components use a Node's name as its UID.
            InvolvedObject::Node => {
                let uid = Some(self.node.to_string());
                Ok(Some(ObjectReference { uid, ..of("Node", &self.node) }))
            }
            InvolvedObject::Service(service) => {
                let services: Api<Service> =
                    Api::namespaced(self.clients.current().clone(), service.namespace());
                // The agent may list Services but not get them.
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

    /// Returns the name of the Event. The same event has the same name, on all nodes unless it is
    /// specific to a node.
    fn name(&self, event: &ReportedEvent, regarding: &ObjectReference) -> String {
        let mut hasher = DefaultHasher::new();
        (event.reason.name(), &event.message, &regarding.uid).hash(&mut hasher);
        if event.reason.is_of_node() {
            self.node.hash(&mut hasher);
        }
        format!("{}.{:016x}", regarding.name.as_deref().unwrap_or_default(), hasher.finish())
    }

    fn event(
        &self,
        event: &ReportedEvent,
        regarding: ObjectReference,
        (namespace, name): &(String, String),
        series: Option<EventSeries>,
    ) -> Event {
        let note = match (&event.about, event.reason.is_of_node()) {
            (InvolvedObject::Service(_), true) => format!("node {}: {}", self.node, event.message),
            _ => event.message.clone(),
        };
        Event {
            metadata: ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some("Warning".to_owned()),
            reason: Some(event.reason.name().to_owned()),
            action: Some(event.reason.action().to_owned()),
            note: Some(cut(&one_line(&note), LONGEST_NOTE).to_owned()),
            regarding: Some(regarding),
            reporting_controller: Some(NAME.to_owned()),
            reporting_instance: Some(self.node.to_string()),
            series,
            ..Event::default()
        }
    }
}

async fn ask<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
            let (code, message) = (status.code, status.message);
            if code == 429 {
                Err(WriteError::Unreachable(message))
            } else {
                Err(WriteError::Refused { code, message })
            }
        }
        Ok(Err(error)) => Err(WriteError::Unreachable(reason(&error))),
        Err(_) => Err(WriteError::Unreachable(format!("no answer within {REQUEST_TIMEOUT:?}"))),
    }
}
