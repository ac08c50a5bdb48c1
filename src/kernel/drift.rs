//! Detects changes to our nf_tables tables, device and routes by other programs, as they happen.
//! IPVS sends no notifications: audits detect drift there.

use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};

use netlink_ipvs::{Header, KernelError, Listener, Subsystem, messages};

use super::{nft, route};

/// `NFNLGRP_NFTABLES`
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// The test of each socket for a notification about our objects.
const JUDGES: [fn(Header, &[u8]) -> bool; 2] = [nft::is_about_ours, route::may_change_ours];

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
    mut notify: impl FnMut() -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listeners = [
        Listener::open(Subsystem::Netfilter, &[GROUP_NFTABLES], &[])?,
        Listener::open(Subsystem::Route, &ROUTE_GROUPS, &[])?,
    ];
    let run = move || {
        loop {
            let mut tampered = false;
            for (listener, is_ours) in listeners.iter_mut().zip(JUDGES) {
                // Lost notifications are mostly about our own changes, which come in masses.
                listener.read(|header, payload| {
                    tampered |= !own.contains(&header.port) && is_ours(header, payload);
                });
            }
            if tampered && notify().is_break() {
                return;
            }
            Listener::wait(&listeners, None);
        }
    };
    let spawned = thread::Builder::new().name("tampering".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Returns whether a datagram of nf_tables, or of routing, is about our objects. Public for the
/// fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn is_about_ours(datagram: &[u8]) -> [bool; 2] {
    JUDGES.map(|is_ours| messages(datagram).any(|(header, payload)| is_ours(header, payload)))
}
