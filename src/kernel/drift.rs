//! Detects changes to our nf_tables tables, device and routes by other programs, as they happen.
//! IPVS sends no notifications: audits detect drift there.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_ipvs::{Header, KernelError, Listener, Subsystem, messages};

use super::{nft, route};

/// `NFNLGRP_NFTABLES`
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Returns what a notification says, if it is about our objects.
type Describe = fn(Header, &[u8]) -> Option<String>;
/// For each socket.
const JUDGES: [Describe; 2] = [nft::describe, route::describe];
/// The number of changes that are named.
const NAMED: usize = 5;
/// How long the end of a transaction, which names the process, may come after its changes.
const END_OF_TRANSACTION: Duration = Duration::from_millis(100);

/// What the kernel says about changes by other programs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DriftNotice {
    /// The first different changes, in words.
    pub changes: BTreeSet<String>,
    /// The processes, in words.
    pub writers: BTreeSet<String>,
}

impl DriftNotice {
    /// Adds what a later notice says.
    pub fn merge(&mut self, later: Self) {
        later.changes.into_iter().for_each(|change| self.add_change(change));
        self.writers.extend(later.writers);
    }

    fn add_change(&mut self, change: String) {
        if self.changes.len() < NAMED {
            self.changes.insert(change);
        }
    }

    /// Adds a notification of another program if it is about our objects.
    fn add(&mut self, header: Header, payload: &[u8], judge: usize) {
        let Some(change) = JUDGES.get(judge).and_then(|judge| judge(header, payload)) else {
            // The end of a transaction of others that has not changed our tables.
            if !self.changes.is_empty() && judge == 0 {
                self.writers.extend(nft::writer(header, payload));
            }
            return;
        };
        self.add_change(change);
        // nf_tables names the process itself. For routes, most programs use the number of their
        // process as the port.
        if judge > 0 && header.port > 0 {
            self.writers.insert(format!("netlink port {}", header.port));
        }
    }
}

/// Calls `notify`, from a new thread, whenever another program may have changed our objects in the
/// network namespace of the calling thread. `own` are the netlink ports of our own changes. The
/// thread ends when `notify` breaks.
///
/// Lost notifications are not requested again: an audit detects these changes.
///
/// # Errors
///
/// If a socket cannot be opened or the thread cannot be started.
pub fn follow(
    own: Vec<u32>,
    mut notify: impl FnMut(DriftNotice) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listeners = [
        Listener::open(Subsystem::Netfilter, &[GROUP_NFTABLES], &[])?,
        Listener::open(Subsystem::Route, &ROUTE_GROUPS, &[])?,
    ];
    let run = move || {
        loop {
            let mut notice = read(&mut listeners, &own, DriftNotice::default());
            if !notice.changes.is_empty() {
                if notice.writers.is_empty() {
                    Listener::wait(&listeners, Some(END_OF_TRANSACTION));
                    notice = read(&mut listeners, &own, notice);
                }
                if notify(notice).is_break() {
                    return;
                }
            }
            Listener::wait(&listeners, None);
        }
    };
    let spawned = thread::Builder::new().name("tampering".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Adds what the listeners have received from other programs. Lost notifications are mostly about our
/// own changes, which come in masses.
fn read(listeners: &mut [Listener], own: &[u32], mut notice: DriftNotice) -> DriftNotice {
    for (judge, listener) in listeners.iter_mut().enumerate() {
        listener.read(|header, payload| {
            if !own.contains(&header.port) {
                notice.add(header, payload, judge);
            }
        });
    }
    notice
}

/// Returns whether a datagram of nf_tables, or of routing, is about our objects. Public for the
/// fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn is_about_ours(datagram: &[u8]) -> [bool; 2] {
    JUDGES.map(|judge| messages(datagram).any(|(header, payload)| judge(header, payload).is_some()))
}
