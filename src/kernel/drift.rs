//! Hears of what others change of our nf_tables tables, device and routes, as it happens.
//! IPVS tells nobody of changes: what is done to it is found by audits.

use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};

use netlink_ipvs::{Header, KernelError, Listener, Subsystem, messages};

use super::{nft, route};

/// `NFNLGRP_NFTABLES`
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// For each socket, the test whether a notification is about the agent's own objects.
const JUDGES: [fn(Header, &[u8]) -> bool; 2] = [nft::is_about_ours, route::may_change_ours];

/// Tells, from a thread of its own, each time that somebody else may have changed what is ours, in
/// the network namespace that the calling thread stands in. `own` are the ports of the sockets that
/// our changes are made through. Ends when `tell` breaks.
///
/// Notifications that were lost are not made up for: an audit finds what they would have told.
///
/// # Errors
///
/// If a socket cannot be opened or the thread cannot be started.
pub fn follow(
    own: Vec<u32>,
    mut tell: impl FnMut() -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, KernelError> {
    let mut listeners = [
        Listener::open(Subsystem::Netfilter, &[GROUP_NFTABLES], &[])?,
        Listener::open(Subsystem::Route, &ROUTE_GROUPS, &[])?,
    ];
    let run = move || {
        loop {
            let mut tampered = false;
            for (listener, is_ours) in listeners.iter_mut().zip(JUDGES) {
                // What is missing is mostly of our own changes, which come in masses.
                listener.read(|header, payload| {
                    tampered |= !own.contains(&header.port) && is_ours(header, payload);
                });
            }
            if tampered && tell().is_break() {
                return;
            }
            Listener::wait(&listeners, None);
        }
    };
    let spawned = thread::Builder::new().name("tampering".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Whether a datagram of nf_tables, or of routing, is about the agent's own objects. Public for the
/// fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn is_about_ours(datagram: &[u8]) -> [bool; 2] {
    JUDGES.map(|is_ours| messages(datagram).any(|(header, payload)| is_ours(header, payload)))
}
