//! The node's own addresses, the destinations of its routes and its links, by rtnetlink.
//!
//! One socket hears of changes, the other asks for the lists. A change is only ever a reason to
//! list again, so lost notifications, their order and overruns cannot leave a wrong list.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Event, Link};
use netlink_ipvs::KernelError;

use crate::kernel::route::{Network, NetworkListener, WITHOUT_IPV6, has_ipv6};

/// How long to wait after a failure before listing again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Shortest time between two lists of routes: a CNI may add one for each pod.
const ROUTES_PAUSE: Duration = Duration::from_secs(1);
/// How long what changes routes may still be at it when the first change is told: of a device that
/// is taken down, the kernel tells before it takes its routes away.
const ROUTES_SETTLE: Duration = Duration::from_millis(50);
/// Listing may take one part in so many of the time, however long the list is.
const SHARE: u32 = 20;

/// What [`follow`] delivers first, of everything.
///
/// # Errors
///
/// If the kernel refuses or does not answer.
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

/// Delivers whether the node's kernel has IPv6, once, and the node's addresses, which of them it sends from, and its routes, and its links if `links` says so
/// ([`Network::addresses`], [`Network::source_ips`], [`Network::routes`], [`Network::links`]), before this returns, and from
/// a thread of its own each time that one of the lists has changed. It ends at the first change after
/// which `deliver` breaks.
///
/// A failure to list is logged and tried again by the thread. The network namespace is the one that
/// the calling thread stands in.
///
/// # Errors
///
/// If a socket cannot be opened or the thread cannot be started.
pub fn follow(
    links: bool,
    deliver: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listener = NetworkListener::open()?;
    let mut follower = NetworkMonitor {
        network: Network::open()?,
        addresses: List::new(Duration::ZERO, Duration::ZERO),
        source_ips: List::new(ROUTES_SETTLE, Duration::ZERO),
        routes: List::new(ROUTES_SETTLE, ROUTES_PAUSE),
        links: links.then(|| List::new(Duration::ZERO, Duration::ZERO)),
        deliver,
    };
    let has_ipv6 = has_ipv6();
    if !has_ipv6 {
        tracing::warn!("{WITHOUT_IPV6}");
    }
    let mut told = (follower.deliver)(Event::Ipv6(has_ipv6));
    if told.is_continue() {
        told = follower.look();
    }
    let run = move || {
        while told.is_continue() {
            let touched = listener.wait(follower.idle());
            if touched.addresses {
                follower.addresses.touch();
            }
            if touched.addresses || touched.routes {
                follower.source_ips.touch();
            }
            if touched.routes {
                follower.routes.touch();
            }
            if let Some(links) = follower.links.as_mut().filter(|_| touched.links) {
                links.touch();
            }
            told = follower.look();
        }
    };
    let spawned = thread::Builder::new().name("network".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Lists what is due, and delivers what is new.
struct NetworkMonitor<D> {
    network: Network,
    addresses: List<Vec<IpAddr>>,
    source_ips: List<Vec<IpAddr>>,
    routes: List<Vec<ipnet::IpNet>>,
    links: Option<List<Vec<Link>>>,
    deliver: D,
}

impl<D: FnMut(Event) -> ControlFlow<()>> NetworkMonitor<D> {
    fn look(&mut self) -> ControlFlow<()> {
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

    /// How long there is nothing to list, unless something changes; without end if `None`.
    fn idle(&self) -> Option<Duration> {
        let links = self.links.as_ref().and_then(List::due);
        let due = [self.addresses.due(), self.source_ips.due(), self.routes.due(), links];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }
}

/// One of the lists.
struct List<T> {
    /// As it was delivered last.
    delivered: Option<T>,
    /// Whether it may have changed since it was read.
    is_due: bool,
    /// Not to be read before.
    rests_until: Instant,
    /// From a change to reading.
    settle: Duration,
    /// From reading to reading.
    pause: Duration,
}

impl<T: Clone + PartialEq> List<T> {
    fn new(settle: Duration, pause: Duration) -> Self {
        Self { delivered: None, is_due: true, rests_until: Instant::now(), settle, pause }
    }

    /// It may have changed.
    fn touch(&mut self) {
        if !std::mem::replace(&mut self.is_due, true) {
            self.rests_until = self.rests_until.max(Instant::now() + self.settle);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.is_due.then_some(self.rests_until)
    }

    /// Reads the list if it is due. Returns it if it is another than the one delivered last.
    fn read(&mut self, read: impl FnOnce() -> Result<T, KernelError>) -> Option<T> {
        let start = Instant::now();
        if self.due().is_none_or(|due| due > start) {
            return None;
        }
        let read = read();
        let end = Instant::now();
        self.is_due = read.is_err();
        self.rests_until = end + self.pause.max((end - start) * SHARE);
        match read {
            Ok(list) if self.delivered.as_ref() == Some(&list) => None,
            Ok(list) => {
                self.delivered = Some(list.clone());
                Some(list)
            }
            Err(error) => {
                tracing::warn!(%error, "will list the node's addresses, routes and links again");
                self.rests_until = end + RETRY_DELAY;
                None
            }
        }
    }
}
