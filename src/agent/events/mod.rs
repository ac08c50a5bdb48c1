//! Reports for operators about Services and the node: log lines and, with an API server, Events on
//! the objects.

mod messages;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube_ipvs_core::model::{Limiter, ServiceKey, Topic};
use tokio::sync::mpsc;
use tracing::warn;

use super::metrics::Metrics;

pub use kube_ipvs_core::model::QUIET;
pub use messages::{of_ejection, of_failure, of_ignored, of_refusals};
pub use writer::EventWriter;

/// The longest queue of events for the API server.
const LONGEST_QUEUE: usize = 256;
/// Space in the queue that is reserved for events of the node.
const OF_NODE: usize = EventReason::ALL.len();
/// The space for the Services of one namespace.
const OF_NAMESPACE: usize = 64;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InvolvedObject {
    Service(ServiceKey),
    Node,
}

impl InvolvedObject {
    /// Returns the namespace of the object, or an empty string.
    fn namespace(&self) -> &str {
        match self {
            Self::Service(service) => service.namespace(),
            Self::Node => "",
        }
    }
}

/// The reason of an event, which scripts and alerts use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventReason {
    /// A Service requests an address of this node.
    AddressOfNode,
    /// A device of this node has a Service's ClusterIP, and a process answers there.
    AddressOnDevice,
    /// A Service requests an address of the API server.
    AddressOfApiServer,
    AddressInServiceRange,
    /// A Service requests an address in a shadow range.
    AddressInShadowRange,
    /// A Service requests an address and port that another Service owns.
    AddressTaken,
    /// An option of a Service has no effect.
    OptionIgnored,
    /// An endpoint does not answer, and gets no new connections.
    EndpointEjected,
    /// A service range or shadow range has another use.
    RangeOverlaps,
    /// The agent cannot listen on a health check's port; the name is kube-proxy's.
    HealthCheckNotStarted,
    KernelRejected,
    /// A kernel setting changes again and again, or cannot be repaired.
    SettingDrift,
    /// The firewall of another program drops traffic of Services.
    FirewallDrops,
    /// The changed configuration file is invalid.
    ConfigurationInvalid,
    /// A check of `doctor` warns or fails.
    CheckFailed,
    /// The agent's own probes of the data path get no answer.
    CanaryFails,
}

impl EventReason {
    pub const ALL: [Self; 16] = [
        Self::AddressOfNode,
        Self::AddressOnDevice,
        Self::AddressOfApiServer,
        Self::AddressInServiceRange,
        Self::AddressInShadowRange,
        Self::AddressTaken,
        Self::OptionIgnored,
        Self::EndpointEjected,
        Self::RangeOverlaps,
        Self::HealthCheckNotStarted,
        Self::KernelRejected,
        Self::SettingDrift,
        Self::FirewallDrops,
        Self::ConfigurationInvalid,
        Self::CheckFailed,
        Self::CanaryFails,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        self.properties().0
    }

    #[must_use]
    pub fn action(self) -> &'static str {
        self.properties().1
    }

    /// Returns whether the event is specific to this node. Other events are written once, and not
    /// by every node.
    #[must_use]
    pub fn is_of_node(self) -> bool {
        self.properties().2
    }

    /// Returns the name, the action, and whether the event is specific to this node.
    fn properties(self) -> (&'static str, &'static str, bool) {
        match self {
            Self::AddressOfNode => ("AddressOfNode", "Serve", true),
            Self::AddressOnDevice => ("AddressOnDevice", "Serve", true),
            Self::AddressOfApiServer => ("AddressOfAPIServer", "Serve", false),
            Self::AddressInServiceRange => ("AddressInServiceRange", "Serve", false),
            Self::AddressInShadowRange => ("AddressInShadowRange", "Serve", false),
            Self::AddressTaken => ("AddressTaken", "Serve", false),
            Self::OptionIgnored => ("OptionIgnored", "Serve", false),
            Self::EndpointEjected => ("EndpointEjected", "Serve", true),
            Self::RangeOverlaps => ("RangeOverlaps", "Program", true),
            Self::HealthCheckNotStarted => ("FailedToStartServiceHealthcheck", "Listen", true),
            Self::KernelRejected => ("KernelRejected", "Program", true),
            Self::SettingDrift => ("SettingDrift", "Program", true),
            Self::FirewallDrops => ("FirewallDrops", "Serve", true),
            Self::ConfigurationInvalid => ("ConfigurationInvalid", "Configure", true),
            Self::CheckFailed => ("CheckFailed", "Check", true),
            Self::CanaryFails => ("CanaryFails", "Serve", true),
        }
    }
}

/// A report for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportedEvent {
    pub about: InvolvedObject,
    pub reason: EventReason,
    /// The problem and its remedy.
    pub message: String,
}

/// The receiving end of an [`EventRecorder`].
pub struct EventQueue {
    queue: mpsc::Receiver<ReportedEvent>,
    /// The number of queued events by namespace.
    queued: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl EventQueue {
    /// Waits for the next event; `None` once all recorders are gone.
    pub async fn recv(&mut self) -> Option<ReportedEvent> {
        let event = self.queue.recv().await?;
        Some(self.take_out(event))
    }

    #[cfg(test)]
    pub(super) fn try_recv(&mut self) -> Option<ReportedEvent> {
        let event = self.queue.try_recv().ok()?;
        Some(self.take_out(event))
    }

    fn take_out(&self, event: ReportedEvent) -> ReportedEvent {
        let mut queued = locked(&self.queued);
        if let Some(taken) = queued.get_mut(event.about.namespace()) {
            *taken -= 1;
        }
        queued.retain(|_, taken| *taken > 0);
        event
    }
}

/// Records events without ever blocking.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<ReportedEvent>,
    /// The number of queued events by namespace.
    queued: Arc<Mutex<BTreeMap<String, usize>>>,
    limiter: Arc<Mutex<Limiter<LogTopic, String>>>,
    metrics: Arc<Metrics>,
}

/// The object, and the reason of an event.
type LogTopic = (InvolvedObject, Option<EventReason>);

impl Topic for InvolvedObject {
    fn group(&self) -> &str {
        self.namespace()
    }
}

impl EventRecorder {
    /// Returns a recorder and its queue.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> (Self, EventQueue) {
        let (sender, queue) = mpsc::channel(LONGEST_QUEUE);
        let limiter = Arc::new(Mutex::new(Limiter::new(QUIET)));
        let queued = Arc::default();
        let events = EventQueue { queue, queued: Arc::clone(&queued) };
        (Self { queue: sender, queued, limiter, metrics }, events)
    }

    /// Reports an event in the log and, if a writer exists, as an Event. Repeated events and bursts
    /// are rate-limited.
    pub fn report(&self, event: ReportedEvent) {
        self.note((event.about.clone(), Some(event.reason)), event.message.clone());
        // Events of the node do not count against a namespace.
        let mut queued = locked(&self.queued);
        let taken = queued.entry(event.about.namespace().to_owned()).or_default();
        let has_room = event.about == InvolvedObject::Node
            || (*taken < OF_NAMESPACE && self.queue.capacity() > OF_NODE);
        let sent = has_room.then(|| self.queue.try_send(event));
        match sent {
            Some(Ok(())) => *taken += 1,
            None | Some(Err(mpsc::error::TrySendError::Full(_))) => {
                self.metrics.event_dropped.inc()
            }
            // No writer exists.
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {}
        }
        queued.retain(|_, taken| *taken > 0);
    }

    /// Reports an event about the node.
    pub(super) fn report_node(&self, reason: EventReason, message: String) {
        self.report(ReportedEvent { about: InvolvedObject::Node, reason, message });
    }

    /// Reports a possibly transient failure in the log only.
    pub(super) fn report_log(&self, about: InvolvedObject, message: String) {
        self.note((about, None), message);
    }

    fn note(&self, topic: LogTopic, message: String) {
        add(&mut locked(&self.limiter), topic, message);
        self.log(Instant::now());
    }

    /// Writes the log lines that are due.
    pub(super) fn log(&self, now: Instant) {
        let next = || locked(&self.limiter).next(now);
        while let Some(((about, reason), message, count)) = next() {
            let reason = reason.map(EventReason::name);
            let service = match about {
                InvolvedObject::Service(service) => Some(service.to_string()),
                InvolvedObject::Node => None,
            };
            let times = (count > 1).then_some(count);
            warn!(service, reason, times, "{message}");
        }
    }

    /// Returns when [`EventRecorder::log`] has a line to write.
    pub(super) fn log_due(&self, now: Instant) -> Option<Instant> {
        locked(&self.limiter).next_due(now)
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds an event and returns whether there is space for it. Events of the node come first, because
/// the authors of Services can create any number of topics.
fn add<R: Ord + Clone, V>(
    limiter: &mut Limiter<(InvolvedObject, R), V>,
    topic: (InvolvedObject, R),
    event: V,
) -> bool {
    match topic.0 {
        InvolvedObject::Node => {
            limiter.add_first(topic, event);
            true
        }
        InvolvedObject::Service(_) => limiter.add(topic, event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_what_kubernetes_allows() {
        let mut names = std::collections::BTreeSet::new();
        for reason in EventReason::ALL {
            let name = reason.name();
            assert!(names.insert(name), "{name} twice");
            assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(name.chars().all(char::is_alphanumeric) && name.len() <= 128, "{name}");
            let documented = include_str!("../../../docs/events.md");
            assert!(
                documented.contains(&format!("| `{name}` |")),
                "{name} is not in docs/events.md"
            );
        }
    }

    #[test]
    fn a_full_event_queue_does_not_block() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (recorder, _queue) = EventRecorder::new(Arc::clone(&metrics));
        let report = |about: InvolvedObject, reason| {
            recorder.report(ReportedEvent { about, reason, message: String::new() });
            metrics.encode().expect("text")
        };
        let dropped =
            |count: usize| format!("kube_ipvs_event_writes_total{{result=\"dropped\"}} {count}");
        for index in 0..LONGEST_QUEUE {
            let service = ServiceKey::new(&index.to_string(), "web");
            report(InvolvedObject::Service(service), EventReason::AddressTaken);
        }
        for reason in EventReason::ALL {
            let text = report(InvolvedObject::Node, reason);
            assert!(text.contains(&dropped(OF_NODE)), "{text}");
        }
        assert!(
            report(InvolvedObject::Node, EventReason::FirewallDrops)
                .contains(&dropped(OF_NODE + 1))
        );
    }

    #[test]
    fn a_namespace_leaves_room_in_the_queue() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (recorder, mut queue) = EventRecorder::new(metrics);
        let report = |namespace: &str, name: &str| {
            let about = InvolvedObject::Service(ServiceKey::new(namespace, name));
            let reason = EventReason::AddressTaken;
            recorder.report(ReportedEvent { about, reason, message: String::new() });
        };
        for index in 0..LONGEST_QUEUE {
            report("many", &index.to_string());
        }
        report("few", "web");
        let reported = |queue: &mut EventQueue| -> Vec<_> {
            let events = std::iter::from_fn(|| queue.try_recv());
            events.map(|event| event.about.namespace().to_owned()).collect()
        };
        let first = reported(&mut queue);
        assert_eq!(
            (first.len(), first.last().map(String::as_str)),
            (OF_NAMESPACE + 1, Some("few"))
        );
        // Removed events free their space.
        report("many", "web");
        assert_eq!(reported(&mut queue), ["many"]);
        assert!(locked(&recorder.queued).is_empty());
    }
}
