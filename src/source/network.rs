//! The node's own addresses, the destinations of its routes and its links, over rtnetlink.
//!
//! One socket receives notifications, the other requests the lists. A notification only triggers a
//! new list, so lost or reordered notifications cannot lead to a wrong list.

use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{iter, mem};

use kube_ipvs_core::model::Event;
use netlink_ipvs::KernelError;

use crate::kernel::route::{self, Network, Touched, WITHOUT_IPV6, has_ipv6};

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
pub fn list() -> Result<Vec<Event>, KernelError> {
    let mut network = Network::open()?;
    let lists = lists(true).into_iter().map(|list| (list.read)(&mut network));
    iter::once(Ok(Event::Ipv6(has_ipv6()))).chain(lists).collect()
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
    mut deliver: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listener = route::listen()?;
    let mut network = Network::open()?;
    let mut lists = lists(links);
    let has_ipv6 = has_ipv6();
    if !has_ipv6 {
        tracing::warn!("{WITHOUT_IPV6}");
    }
    let first = iter::once(Event::Ipv6(has_ipv6));
    let changed = lists.iter_mut().filter_map(|list| list.changed(&mut network));
    let mut flow = first.chain(changed).try_for_each(&mut deliver);
    let run = move || {
        while flow.is_continue() {
            let due = lists.iter().filter_map(List::due).min();
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let touched = route::wait(&mut listener, wait);
            lists.iter_mut().filter(|list| (list.depends)(touched)).for_each(List::touch);
            let mut changed = lists.iter_mut().filter_map(|list| list.changed(&mut network));
            flow = changed.try_for_each(&mut deliver);
        }
    };
    let spawned = thread::Builder::new().name("network".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Returns the lists in the order of their delivery.
fn lists(links: bool) -> Vec<List> {
    let mut lists = vec![
        List::new(|it| it.addresses().map(Event::Addresses), |it| it.addresses),
        List {
            settle: ROUTES_SETTLE,
            ..List::new(|it| it.source_ips().map(Event::SourceIps), |it| it.addresses || it.routes)
        },
        List {
            settle: ROUTES_SETTLE,
            interval: ROUTES_INTERVAL,
            ..List::new(|it| it.routes().map(Event::Routes), |it| it.routes)
        },
    ];
    if links {
        lists.push(List::new(|it| it.links().map(Event::Links), |it| it.links));
    }
    lists
}

struct List {
    read: fn(&mut Network) -> Result<Event, KernelError>,
    /// Whether the list may have changed.
    depends: fn(Touched) -> bool,
    /// The wait between a change and the read.
    settle: Duration,
    /// The least time between reads.
    interval: Duration,
    delivered: Option<Event>,
    /// Whether it may have changed since the last read.
    is_due: bool,
    /// The earliest time of the next read.
    rests_until: Instant,
}

impl List {
    fn new(
        read: fn(&mut Network) -> Result<Event, KernelError>,
        depends: fn(Touched) -> bool,
    ) -> Self {
        Self {
            read,
            depends,
            settle: Duration::ZERO,
            interval: Duration::ZERO,
            delivered: None,
            is_due: true,
            rests_until: Instant::now(),
        }
    }

    fn touch(&mut self) {
        if !mem::replace(&mut self.is_due, true) {
            self.rests_until = self.rests_until.max(Instant::now() + self.settle);
        }
    }

    fn due(&self) -> Option<Instant> {
        self.is_due.then_some(self.rests_until)
    }

    /// Reads the list if it is due. Returns it if it differs from the last delivered one.
    fn changed(&mut self, network: &mut Network) -> Option<Event> {
        let start = Instant::now();
        if self.due().is_none_or(|due| due > start) {
            return None;
        }
        let read = (self.read)(network);
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
