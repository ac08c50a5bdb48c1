//! The node's own addresses, the destinations of its routes and its links, over rtnetlink.
//!
//! One socket receives notifications, the other requests the lists. A notification only triggers a
//! new list, so lost or reordered notifications cannot lead to a wrong list.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Event, Link};
use netlink_ipvs::KernelError;

use crate::kernel::route::{Network, NetworkListener, WITHOUT_IPV6, has_ipv6};

/// The wait after a failure before the next list.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The least time between two lists of routes: a CNI plugin may add one per pod.
const ROUTES_INTERVAL: Duration = Duration::from_secs(1);
/// The wait after a notification, while routes may still change: the kernel reports that a device
/// goes down before it removes the routes.
const ROUTES_SETTLE: Duration = Duration::from_millis(50);
/// Lists take at most one part in this many of the time.
const SHARE: u32 = 20;

/// Returns the events that [`follow`] delivers first, of all lists.
///
/// # Errors
///
/// If the kernel rejects a request or does not answer.
pub fn list() -> Result<[Event; 5], KernelError> {
    let mut network = Network::open()?;
    Ok([
        Event::Ipv6(has_ipv6()),
        Event::Addresses(network.addresses()?),
        Event::SourceIps(network.source_ips()?),
        Event::Routes(network.routes()?),
        Event::Links(network.links()?),
    ])
}

/// Delivers whether the kernel has IPv6, the node's addresses, source addresses and routes, and its
/// links if `links` is set ([`Network::addresses`], [`Network::source_ips`], [`Network::routes`],
/// [`Network::links`]).
///
/// The first lists are delivered before this function returns, and each changed list from a
/// separate thread. The thread ends at the first change for which `deliver` breaks. A failure to
/// list is logged and retried by the thread. The network namespace is that of the calling thread.
///
/// # Errors
///
/// If a socket cannot be opened or the thread cannot be started.
pub fn follow(
    links: bool,
    deliver: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listener = NetworkListener::open()?;
    let mut monitor = NetworkMonitor {
        network: Network::open()?,
        addresses: List::new(Duration::ZERO, Duration::ZERO),
        source_ips: List::new(ROUTES_SETTLE, Duration::ZERO),
        routes: List::new(ROUTES_SETTLE, ROUTES_INTERVAL),
        links: links.then(|| List::new(Duration::ZERO, Duration::ZERO)),
        deliver,
    };
    let has_ipv6 = has_ipv6();
    if !has_ipv6 {
        tracing::warn!("{WITHOUT_IPV6}");
    }
    let mut flow = (monitor.deliver)(Event::Ipv6(has_ipv6));
    if flow.is_continue() {
        flow = monitor.deliver_due();
    }
    let run = move || {
        while flow.is_continue() {
            let touched = listener.wait(monitor.idle());
            if touched.addresses {
                monitor.addresses.touch();
            }
            if touched.addresses || touched.routes {
                monitor.source_ips.touch();
            }
            if touched.routes {
                monitor.routes.touch();
            }
            if let Some(links) = monitor.links.as_mut().filter(|_| touched.links) {
                links.touch();
            }
            flow = monitor.deliver_due();
        }
    };
    let spawned = thread::Builder::new().name("network".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Reads the lists that are due, and delivers changes.
struct NetworkMonitor<D> {
    network: Network,
    addresses: List<Vec<IpAddr>>,
    source_ips: List<Vec<IpAddr>>,
    routes: List<Vec<ipnet::IpNet>>,
    links: Option<List<Vec<Link>>>,
    deliver: D,
}

impl<D: FnMut(Event) -> ControlFlow<()>> NetworkMonitor<D> {
    fn deliver_due(&mut self) -> ControlFlow<()> {
        let addresses = self.addresses.read(|| self.network.addresses()).map(Event::Addresses);
        let source_ips = self.source_ips.read(|| self.network.source_ips()).map(Event::SourceIps);
        let routes = self.routes.read(|| self.network.routes()).map(Event::Routes);
        let links = self.links.as_mut().and_then(|links| links.read(|| self.network.links()));
        let links = links.map(Event::Links);
        addresses
            .into_iter()
            .chain(source_ips)
            .chain(routes)
            .chain(links)
            .try_for_each(&mut self.deliver)
    }

    /// Returns the time until the next list is due; `None` if none is.
    fn idle(&self) -> Option<Duration> {
        let links = self.links.as_ref().and_then(List::due);
        let due = [self.addresses.due(), self.source_ips.due(), self.routes.due(), links];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }
}

struct List<T> {
    delivered: Option<T>,
    /// Whether it may have changed since the last read.
    is_due: bool,
    /// The earliest time of the next read.
    rests_until: Instant,
    /// The wait between a change and the read.
    settle: Duration,
    /// The least time between reads.
    interval: Duration,
}

impl<T: Clone + PartialEq> List<T> {
    fn new(settle: Duration, interval: Duration) -> Self {
        Self { delivered: None, is_due: true, rests_until: Instant::now(), settle, interval }
    }

    fn touch(&mut self) {
        if !std::mem::replace(&mut self.is_due, true) {
            self.rests_until = self.rests_until.max(Instant::now() + self.settle);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.is_due.then_some(self.rests_until)
    }

    /// Reads the list if it is due. Returns it if it differs from the last delivered one.
    fn read(&mut self, read: impl FnOnce() -> Result<T, KernelError>) -> Option<T> {
        let start = Instant::now();
        if self.due().is_none_or(|due| due > start) {
            return None;
        }
        let read = read();
        let end = Instant::now();
        self.is_due = read.is_err();
        self.rests_until = end + self.interval.max((end - start) * SHARE);
        match read {
            Ok(list) if self.delivered.as_ref() == Some(&list) => None,
            Ok(list) => {
                self.delivered = Some(list.clone());
                Some(list)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot list the node's addresses, routes or links; will be retried");
                self.rests_until = end + RETRY_DELAY;
                None
            }
        }
    }
}
