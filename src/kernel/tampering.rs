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

use super::netlink::{Header, KernelError, attributes, messages};
use crate::model::{NAME, ROUTE_PROTOCOL};

/// `NFNLGRP_NFTABLES`
const GROUP_NFTABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_ROUTE`, `_IPV6_RULE`.
const ROUTE_GROUPS: [u32; 6] = [1, 5, 7, 8, 11, 19];
/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u8 = 10;
/// `NFTA_*_TABLE`: the same number in what is told of tables, chains, rules, sets and elements.
const TABLE_NAME: u16 = 1;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWRULE: u16 = 32;
const DELRULE: u16 = 33;
/// Bytes of `struct ifinfomsg`, `struct ifaddrmsg` and `struct fib_rule_hdr`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const RULE_HEADER: usize = 12;
const IFLA_IFNAME: u16 = 3;
const IFA_LABEL: u16 = 3;
const FRA_PROTOCOL: u16 = 21;
const IFF_UP: u32 = 1;
/// Larger than any notification.
const BUFFER_BYTES: usize = 64 << 10;
/// Wait after an error before listening goes on.
const PAUSE: Duration = Duration::from_secs(1);

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
    let judges = [is_of_our_tables, is_of_our_routes];
    let run = move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut tampered = false;
            for (socket, is_ours) in sockets.iter().zip(judges) {
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

/// Whether a notification is about one of our tables.
fn is_of_our_tables(header: Header, payload: &[u8]) -> bool {
    let [subsystem, _] = header.kind.to_be_bytes();
    // `struct nfgenmsg` comes first.
    let rest = payload.get(4..).unwrap_or_default();
    subsystem == NFTABLES
        && attributes(rest).any(|it| it.kind == TABLE_NAME && it.text() == Some(NAME))
}

/// Whether a notification is about our device, rules or routes.
fn is_of_our_routes(header: Header, payload: &[u8]) -> bool {
    let names_us = |header: usize, kind: u16| {
        let rest = payload.get(header..).unwrap_or_default();
        attributes(rest).any(|it| it.kind == kind && it.text() == Some(NAME))
    };
    match header.kind {
        DELLINK => names_us(LINK_HEADER, IFLA_IFNAME),
        NEWLINK => {
            let flags = payload.get(8..).and_then(<[u8]>::first_chunk);
            let is_down = flags.is_some_and(|flags| u32::from_ne_bytes(*flags) & IFF_UP == 0);
            is_down && names_us(LINK_HEADER, IFLA_IFNAME)
        }
        NEWADDR | DELADDR => names_us(ADDRESS_HEADER, IFA_LABEL),
        NEWROUTE | DELROUTE => payload.get(5) == Some(&ROUTE_PROTOCOL),
        NEWRULE | DELRULE => {
            let rest = payload.get(RULE_HEADER..).unwrap_or_default();
            attributes(rest)
                .any(|it| it.kind == FRA_PROTOCOL && it.value.first() == Some(&ROUTE_PROTOCOL))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::netlink::Attributes;

    fn header(kind: u16) -> Header {
        Header { kind, flags: 0, sequence: 0, port: 0 }
    }

    fn message(head: &[u8], attribute: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        Attributes::new(&mut bytes).bytes(attribute, value);
        bytes
    }

    #[test]
    fn only_what_is_ours_is_meant() {
        let table = |name: &str| message(&[1, 0, 0, 0], TABLE_NAME, name.as_bytes());
        let of_table = header(u16::from_be_bytes([NFTABLES, 2]));
        assert!(is_of_our_tables(of_table, &table("kube-ipvs\0")));
        assert!(!is_of_our_tables(of_table, &table("kube-proxy\0")));

        let link = |up: u8| {
            let head = [0, 0, 0, 0, 0, 0, 0, 0, up, 0, 0, 0, 0, 0, 0, 0];
            message(&head, IFLA_IFNAME, b"kube-ipvs\0")
        };
        assert!(is_of_our_routes(header(DELLINK), &link(1)));
        assert!(is_of_our_routes(header(NEWLINK), &link(0)));
        assert!(!is_of_our_routes(header(NEWLINK), &link(1)));
        let route = |protocol| [2, 32, 0, 0, 255, protocol, 0, 2, 0, 0, 0, 0];
        assert!(is_of_our_routes(header(DELROUTE), &route(ROUTE_PROTOCOL)));
        assert!(!is_of_our_routes(header(DELROUTE), &route(2)));
        let rule = message(&[0; RULE_HEADER], FRA_PROTOCOL, &[ROUTE_PROTOCOL]);
        assert!(is_of_our_routes(header(DELRULE), &rule));
    }

    proptest! {
        #[test]
        fn any_notification_can_be_read(kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (is_of_our_tables(header(kind), &bytes), is_of_our_routes(header(kind), &bytes));
        }
    }
}
