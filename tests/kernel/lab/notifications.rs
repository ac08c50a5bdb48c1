//! What the kernel says of changes to nf_tables, routes, rules, addresses and links.

use std::io;

use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

use super::namespace::Namespace;

/// `NFNLGRP_NFTABLES`.
const NF_TABLES: u32 = 7;
/// `RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`, `IPV6_IFADDR`, `IPV6_ROUTE` and
/// `IPV6_RULE`.
const ROUTING: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// Listens to the change notifications of a namespace.
pub(crate) struct Notifications {
    nft: Socket,
    route: Socket,
}

impl Notifications {
    /// Starts listening.
    pub(crate) fn listen(namespace: &Namespace) -> io::Result<Self> {
        let open = |protocol: isize, groups: &[u32]| -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            for group in groups {
                socket.add_membership(*group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        namespace.inside(|| {
            Ok(Self {
                nft: open(NETLINK_NETFILTER, &[NF_TABLES])?,
                route: open(NETLINK_ROUTE, &ROUTING)?,
            })
        })
    }

    /// How many messages have come: about nf_tables, and about routing.
    pub(crate) fn count(&self) -> (usize, usize) {
        (received(&self.nft), received(&self.route))
    }
}

fn received(socket: &Socket) -> usize {
    std::iter::from_fn(|| socket.recv_from_full().ok()).count()
}
