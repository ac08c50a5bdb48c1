//! Hears of what others change of our nf_tables tables, device, rules and routes, as it happens.
//! IPVS tells nobody of changes: what is done to it is found by the next audit.

use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::netlink::{Header, KernelError, messages};
use super::{nft, route};

/// `NFNLGRP_NFTABLES`
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_ROUTE`, `_IPV6_RULE`.
const ROUTE_GROUPS: [u32; 6] = [1, 5, 7, 8, 11, 19];
/// Larger than any notification.
const BUFFER_BYTES: usize = 64 << 10;
/// Wait after an error before listening goes on.
const PAUSE: Duration = Duration::from_secs(1);
/// Of each socket, what tells whether a notification is about ours.
const JUDGES: [fn(Header, &[u8]) -> bool; 2] = [nft::is_about_ours, route::is_about_ours];

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
    let sockets =
        [open(NETLINK_NETFILTER, &[GROUP_NFTABLES])?, open(NETLINK_ROUTE, &ROUTE_GROUPS)?];
    let run = move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut tampered = false;
            for (socket, is_ours) in sockets.iter().zip(JUDGES) {
                tampered |= read(socket, &mut buffer, |header, payload| {
                    !own.contains(&header.port) && is_ours(header, payload)
                });
            }
            if tampered && tell().is_break() {
                return;
            }
            wait(&sockets);
        }
    };
    let spawned = thread::Builder::new().name("tampering".to_owned()).spawn(run);
    spawned.map_err(KernelError::socket("thread"))
}

/// Whether a datagram of nf_tables, or of routing, tells of ours. Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn is_about_ours(datagram: &[u8]) -> [bool; 2] {
    JUDGES.map(|is_ours| messages(datagram).any(|(header, payload)| is_ours(header, payload)))
}

fn open(protocol: isize, groups: &[u32]) -> Result<Socket, KernelError> {
    let mut socket = Socket::new(protocol).map_err(KernelError::socket("socket"))?;
    socket.bind_auto().map_err(KernelError::socket("bind"))?;
    for group in groups {
        socket.add_membership(*group).map_err(KernelError::socket("NETLINK_ADD_MEMBERSHIP"))?;
    }
    Ok(socket)
}

/// Waits until a socket has something.
fn wait(sockets: &[Socket]) {
    let mut fds: Vec<_> = sockets.iter().map(|it| PollFd::new(it, PollFlags::IN)).collect();
    match poll(&mut fds, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot hear of others' changes");
            thread::sleep(PAUSE);
        }
    }
}

/// Reads all that a socket has. Says whether any of it is meant.
fn read(socket: &Socket, buffer: &mut [u8], is_meant: impl Fn(Header, &[u8]) -> bool) -> bool {
    let mut found = false;
    loop {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((held, _)) => {
                let datagram = buffer.get(..held).unwrap_or_default();
                found |= messages(datagram).any(|(header, payload)| is_meant(header, payload));
            }
            // Mostly of our own changes, which come in masses.
            Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(Errno::AGAIN) => return found,
            Err(error) => {
                tracing::warn!(%error, "cannot hear of others' changes");
                thread::sleep(PAUSE);
                return found;
            }
        }
    }
}
