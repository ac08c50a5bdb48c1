//! What an operator must know of Services and of the node: told as log lines and, where there is
//! an API server, as Events on the objects that it is about.

mod failures;
mod refusals;
mod writer;

use std::collections::{BTreeMap, btree_map};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube_ipvs_core::model::{Limiter, ServiceKey, Topic};
use tokio::sync::mpsc;
use tracing::warn;

use super::metrics::Metrics;

pub use failures::of_trouble;
pub use kube_ipvs_core::model::QUIET;
pub use refusals::of_refusals;
pub use writer::EventWriter;

/// EventRecorder that wait for the API server. Whoever has more to tell at once has told enough.
const LONGEST_QUEUE: usize = 256;
/// Places in the queue that are for those of the node, whatever there is to tell of Services,
const OF_NODE: usize = EventReason::ALL.len();
/// and those that Services of one namespace may have.
const OF_NAMESPACE: usize = 64;

/// What a notice is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InvolvedObject {
    /// A Service.
    Service(ServiceKey),
    /// This node.
    Node,
}

impl InvolvedObject {
    /// The namespace of the object; empty if it has none.
    fn namespace(&self) -> &str {
        match self {
            Self::Service(service) => service.namespace(),
            Self::Node => "",
        }
    }
}

/// Why there is a notice: what scripts and alerts look for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EventReason {
    /// A Service asks for an address of this node.
    AddressOfNode,
    /// A device of this node has a Service's ClusterIP, and a process answers there.
    AddressOnDevice,
    /// A Service asks for an address of the API server.
    AddressOfApiServer,
    /// A Service asks for an address that ClusterIPs are allocated from.
    AddressInServiceRange,
    /// A Service asks for an address that stands for ClusterIPs within the node.
    AddressInShadowRange,
    /// A Service asks for an address and port that another Service has.
    AddressTaken,
    /// A range of ClusterIPs, or of their images, holds what is no Service's.
    RangeOverlaps,
    /// A health check's port cannot be listened at; kube-proxy's name for it.
    HealthCheckNotStarted,
    /// The kernel keeps refusing an operation.
    KernelRejected,
    /// A kernel setting that services need is changed again and again, or cannot be put right.
    SettingDrift,
    /// A firewall of others drops what services need.
    FirewallDrops,
    /// The configuration file has changed and is invalid now.
    ConfigurationInvalid,
}

impl EventReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AddressOfNode,
        Self::AddressOnDevice,
        Self::AddressOfApiServer,
        Self::AddressInServiceRange,
        Self::AddressInShadowRange,
        Self::AddressTaken,
        Self::RangeOverlaps,
        Self::HealthCheckNotStarted,
        Self::KernelRejected,
        Self::SettingDrift,
        Self::FirewallDrops,
        Self::ConfigurationInvalid,
    ];

    /// An Event's `reason`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AddressOfNode => "AddressOfNode",
            Self::AddressOnDevice => "AddressOnDevice",
            Self::AddressOfApiServer => "AddressOfAPIServer",
            Self::AddressInServiceRange => "AddressInServiceRange",
            Self::AddressInShadowRange => "AddressInShadowRange",
            Self::AddressTaken => "AddressTaken",
            Self::RangeOverlaps => "RangeOverlaps",
            Self::HealthCheckNotStarted => "FailedToStartServiceHealthcheck",
            Self::KernelRejected => "KernelRejected",
            Self::SettingDrift => "SettingDrift",
            Self::FirewallDrops => "FirewallDrops",
            Self::ConfigurationInvalid => "ConfigurationInvalid",
        }
    }

    /// An Event's `action`: what was being done.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::AddressOfNode
            | Self::AddressOnDevice
            | Self::AddressOfApiServer
            | Self::AddressInServiceRange
            | Self::AddressInShadowRange
            | Self::AddressTaken
            | Self::FirewallDrops => "Serve",
            Self::HealthCheckNotStarted => "Listen",
            Self::KernelRejected | Self::RangeOverlaps | Self::SettingDrift => "Program",
            Self::ConfigurationInvalid => "Configure",
        }
    }

    /// Whether it is so on this node and perhaps nowhere else. What is so everywhere is told once,
    /// not by every node.
    #[must_use]
    pub fn is_of_node(self) -> bool {
        match self {
            Self::AddressOfNode
            | Self::AddressOnDevice
            | Self::RangeOverlaps
            | Self::HealthCheckNotStarted
            | Self::KernelRejected
            | Self::SettingDrift
            | Self::FirewallDrops
            | Self::ConfigurationInvalid => true,
            Self::AddressOfApiServer
            | Self::AddressInServiceRange
            | Self::AddressInShadowRange
            | Self::AddressTaken => false,
        }
    }
}

/// Something that an operator must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReportedEvent {
    /// The object.
    pub about: InvolvedObject,
    /// The kind of notice.
    pub reason: EventReason,
    /// What is so, and what to do.
    pub message: String,
}

/// Where notices come out.
pub struct EventQueue {
    queue: mpsc::Receiver<ReportedEvent>,
    places: Places,
}

/// How many notices are in the queue, by namespace.
type Places = Arc<Mutex<BTreeMap<String, usize>>>;

impl EventQueue {
    /// The next notice, once there is one; `None` if nobody can tell any more.
    pub async fn recv(&mut self) -> Option<ReportedEvent> {
        let notice = self.queue.recv().await?;
        Some(self.out(notice))
    }

    /// The next notice, if there is one now.
    #[cfg(test)]
    pub(super) fn try_recv(&mut self) -> Option<ReportedEvent> {
        let notice = self.queue.try_recv().ok()?;
        Some(self.out(notice))
    }

    fn out(&self, notice: ReportedEvent) -> ReportedEvent {
        let mut places = locked(&self.places);
        if let btree_map::Entry::Occupied(mut taken) =
            places.entry(notice.about.namespace().to_owned())
        {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
        notice
    }
}

/// Takes notices from whoever has one, without ever keeping it waiting.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<ReportedEvent>,
    places: Places,
    /// Of the lines in the log.
    limiter: Arc<Mutex<Limiter<LogTopic, String>>>,
    metrics: Arc<Metrics>,
}

/// The object, and the kind of notice where it is one.
type LogTopic = (InvolvedObject, Option<EventReason>);

impl Topic for InvolvedObject {
    fn group(&self) -> &str {
        self.namespace()
    }
}

impl EventRecorder {
    /// Where notices are put, and where they come out.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> (Self, EventQueue) {
        let (sender, queue) = mpsc::channel(LONGEST_QUEUE);
        let limiter = Arc::new(Mutex::new(Limiter::new(QUIET)));
        let places = Places::default();
        let notices = EventQueue { queue, places: Arc::clone(&places) };
        (Self { queue: sender, places, limiter, metrics }, notices)
    }

    /// Tells something: in the log, and by an Event if anybody writes Events. Both are written at once
    /// unless the same, or too much else, was told a moment ago.
    pub fn tell(&self, notice: ReportedEvent) {
        self.note((notice.about.clone(), Some(notice.reason)), notice.message.clone());
        // What is told of the node has no group of its own.
        let mut places = locked(&self.places);
        let taken = places.entry(notice.about.namespace().to_owned()).or_default();
        let has_room = notice.about == InvolvedObject::Node
            || (*taken < OF_NAMESPACE && self.queue.capacity() > OF_NODE);
        let sent = has_room.then(|| self.queue.try_send(notice));
        match sent {
            Some(Ok(())) => *taken += 1,
            None | Some(Err(mpsc::error::TrySendError::Full(_))) => self.metrics.notice_dropped(),
            // There is nobody who writes Events.
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {}
        }
        places.retain(|_, taken| *taken > 0);
    }

    /// Tells something that may pass, in the log alone.
    pub(super) fn tell_log(&self, about: InvolvedObject, message: String) {
        self.note((about, None), message);
    }

    fn note(&self, topic: LogTopic, message: String) {
        self.limited(|limiter| add(limiter, topic, message));
        self.log(Instant::now());
    }

    /// Writes what waits for its turn in the log.
    pub(super) fn log(&self, now: Instant) {
        while let Some(((about, reason), message, count)) =
            self.limited(|limiter| limiter.next(now))
        {
            let reason = reason.map(EventReason::name);
            let service = match about {
                InvolvedObject::Service(service) => Some(service.to_string()),
                InvolvedObject::Node => None,
            };
            let times = (count > 1).then_some(count);
            warn!(service, reason, times, "{message}");
        }
    }

    /// When [`Notices::log`] has something to write.
    pub(super) fn log_due(&self, now: Instant) -> Option<Instant> {
        self.limited(|limiter| limiter.next_due(now))
    }

    fn limited<T>(&self, act: impl FnOnce(&mut Limiter<LogTopic, String>) -> T) -> T {
        act(&mut locked(&self.limiter))
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in a notice. What is about the node is told first: whoever may write Services has as many topics
/// as they like. Says whether there is room for it.
fn add<R: Ord + Clone, V>(
    limiter: &mut Limiter<(InvolvedObject, R), V>,
    topic: (InvolvedObject, R),
    notice: V,
) -> bool {
    match topic.0 {
        InvolvedObject::Node => {
            limiter.add_first(topic, notice);
            true
        }
        InvolvedObject::Service(_) => limiter.add(topic, notice),
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
    fn a_full_queue_keeps_nobody_waiting() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (notices, _queue) = EventRecorder::new(Arc::clone(&metrics));
        let tell = |about: InvolvedObject, reason| {
            notices.tell(ReportedEvent { about, reason, message: String::new() });
            metrics.encode().expect("text")
        };
        let dropped =
            |count: usize| format!("kube_ipvs_event_writes_total{{result=\"dropped\"}} {count}");
        for index in 0..LONGEST_QUEUE {
            let service = ServiceKey::new(&index.to_string(), "web");
            tell(InvolvedObject::Service(service), EventReason::AddressTaken);
        }
        for reason in EventReason::ALL {
            let text = tell(InvolvedObject::Node, reason);
            assert!(text.contains(&dropped(OF_NODE)), "{text}");
        }
        assert!(
            tell(InvolvedObject::Node, EventReason::FirewallDrops).contains(&dropped(OF_NODE + 1))
        );
    }

    #[test]
    fn a_namespace_leaves_room_in_the_queue() {
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let (notices, mut queue) = EventRecorder::new(metrics);
        let tell = |namespace: &str, name: &str| {
            let about = InvolvedObject::Service(ServiceKey::new(namespace, name));
            let reason = EventReason::AddressTaken;
            notices.tell(ReportedEvent { about, reason, message: String::new() });
        };
        for index in 0..LONGEST_QUEUE {
            tell("many", &index.to_string());
        }
        tell("few", "web");
        let told = |queue: &mut EventQueue| -> Vec<_> {
            let notices = std::iter::from_fn(|| queue.try_recv());
            notices.map(|notice| notice.about.namespace().to_owned()).collect()
        };
        let first = told(&mut queue);
        assert_eq!(
            (first.len(), first.last().map(String::as_str)),
            (OF_NAMESPACE + 1, Some("few"))
        );
        // Those that are out take no place any more.
        tell("many", "web");
        assert_eq!(told(&mut queue), ["many"]);
        assert!(locked(&notices.places).is_empty());
    }
}
