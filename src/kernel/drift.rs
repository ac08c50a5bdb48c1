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
/// The number of changes, and of processes, that are named.
const NAMED: usize = 5;
/// How long the end of a transaction, which names the process, may come after its changes.
const END_OF_TRANSACTION: Duration = Duration::from_millis(100);

/// What the kernel says about changes by other programs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DriftNotice {
    /// The first different changes, in words.
    pub changes: BTreeSet<String>,
    /// The first processes, in words.
    pub writers: BTreeSet<String>,
    /// The netlink port of a transaction of nf_tables whose end has not been reported yet.
    unfinished: Option<u32>,
}

impl DriftNotice {
    /// Adds what a later notice says.
    pub fn merge(&mut self, later: Self) {
        later.changes.into_iter().for_each(|change| add(&mut self.changes, change));
        later.writers.into_iter().for_each(|writer| add(&mut self.writers, writer));
    }

    /// Adds a notification of another program if it is about our objects.
    fn take(&mut self, header: Header, payload: &[u8], judge: usize) {
        let Some(change) = JUDGES.get(judge).and_then(|judge| judge(header, payload)) else {
            // Most transactions have not changed our tables.
            if judge == 0
                && let Some(writer) = nft::writer(header, payload)
                && self.unfinished.take() == Some(header.port)
            {
                add(&mut self.writers, writer);
            }
            return;
        };
        add(&mut self.changes, change);
        if judge == 0 {
            self.unfinished = Some(header.port);
        } else if header.port > 0 {
            // Most programs use the number of their process.
            add(&mut self.writers, format!("netlink port {}", header.port));
        }
    }
}

fn add(named: &mut BTreeSet<String>, text: String) {
    if named.len() < NAMED {
        named.insert(text);
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
                if notice.unfinished.is_some() {
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
                notice.take(header, payload, judge);
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

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;

    use super::*;
    use crate::kernel::nft::constants::{self, generation};
    use crate::kernel::nft::message_type;

    /// A notification of nf_tables from a port.
    fn notify(notice: &mut DriftNotice, kind: u16, port: u32, fill: impl Fn(&mut Attributes<'_>)) {
        let mut body = vec![2, 0, 0, 0];
        fill(&mut Attributes::new(&mut body));
        let header = Header { kind: message_type(kind), flags: 0, sequence: 0, port };
        notice.take(header, &body, 0);
    }

    #[test]
    fn a_transaction_of_others_names_no_process() {
        let mut notice = DriftNotice::default();
        let end = |notice: &mut DriftNotice, port, name: &str| {
            notify(notice, 15, port, |to| {
                to.u32_be(generation::PROCESS, port);
                to.text(generation::PROCESS_NAME, name);
            });
        };
        end(&mut notice, 7, "before");
        notify(&mut notice, 2, 8, |to| to.text(constants::TABLE, "kube-ipvs"));
        assert_eq!(notice.unfinished, Some(8));
        end(&mut notice, 8, "nft");
        end(&mut notice, 9, "after");
        assert_eq!(notice.changes, ["deleted table kube-ipvs (ip)".to_owned()].into());
        assert_eq!(notice.writers, ["nft (process 8)".to_owned()].into());
    }
}
