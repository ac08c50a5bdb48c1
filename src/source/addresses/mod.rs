//! The node's own addresses, by rtnetlink.
//!
//! Two sockets: one hears of changes, the other asks for the list. A change is only ever a reason
//! to list again, so lost notifications, their order and overruns cannot leave a wrong list.

mod lister;
mod usable;

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use lister::Lister;

/// `RTNLGRP_IPV4_IFADDR`.
const GROUP_IPV4_ADDRESS: u32 = 5;
/// `RTNLGRP_IPV6_IFADDR`.
const GROUP_IPV6_ADDRESS: u32 = 9;
/// How long to wait after a failure before listing again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A dump that a concurrent change tore is asked for again so many times.
const DUMP_ATTEMPTS: usize = 5;
/// Larger than any page of a dump.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why the node's addresses are not known.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// A socket could not be opened.
    #[error("cannot open a route netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel could not be asked.
    #[error("cannot list the node's addresses: {0}")]
    List(#[source] io::Error),
    /// The kernel's answer makes no sense.
    #[error("cannot list the node's addresses: the kernel's answer is not understood: {0}")]
    Answer(String),
    /// Every dump was torn by a concurrent change.
    #[error("cannot list the node's addresses: they changed {DUMP_ATTEMPTS} times while listing")]
    Torn,
    /// The thread could not be started.
    #[error("cannot start the thread that follows the node's addresses: {0}")]
    Thread(#[source] io::Error),
}

/// Lists the node's addresses, sorted and without duplicates.
///
/// Loopback and IPv6 link-local addresses are left out, and so are those on devices that hold
/// service addresses and IPv6 addresses that are tentative or failed duplicate detection.
///
/// # Errors
/// If the kernel cannot be asked.
pub fn list() -> Result<Vec<IpAddr>, AddressError> {
    Lister::open()?.list()
}

/// Reads a datagram of the kernel as a list of addresses. Public for the fuzz targets.
///
/// # Errors
/// If it is none, or the kernel's error.
#[doc(hidden)]
pub fn decode(datagram: &[u8]) -> Result<Vec<IpAddr>, AddressError> {
    lister::decode(datagram)
}

/// Delivers the node's addresses, as [`list`] has them, before this returns, and from a thread of
/// its own each time that they change. It ends at the first change after which `deliver` breaks.
///
/// A failure to list is logged and tried again by the thread. The network namespace is the one that
/// the calling thread stands in.
///
/// # Errors
/// If the sockets cannot be opened or the thread cannot be started.
pub fn follow(
    deliver: impl FnMut(Vec<IpAddr>) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, AddressError> {
    let events = open_events()?;
    let mut follower = Follower { lister: Lister::open()?, delivered: None, deliver };
    let mut looked = follower.look();
    let run = move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match looked {
                Ok(ControlFlow::Break(())) => return,
                Ok(ControlFlow::Continue(())) => wait(&events, &mut buffer),
                Err(error) => follower.recover(&error),
            }
            looked = follower.look();
        }
    };
    thread::Builder::new().name("addresses".to_owned()).spawn(run).map_err(AddressError::Thread)
}

/// Lists, and delivers what is new.
struct Follower<D> {
    lister: Lister,
    delivered: Option<Vec<IpAddr>>,
    deliver: D,
}

impl<D: FnMut(Vec<IpAddr>) -> ControlFlow<()>> Follower<D> {
    fn look(&mut self) -> Result<ControlFlow<()>, AddressError> {
        let addresses = self.lister.list()?;
        if self.delivered.as_ref() == Some(&addresses) {
            return Ok(ControlFlow::Continue(()));
        }
        self.delivered = Some(addresses.clone());
        Ok((self.deliver)(addresses))
    }

    /// Waits after a failure, for another look over another socket.
    fn recover(&mut self, error: &AddressError) {
        tracing::warn!(%error, "will list the node's addresses again");
        thread::sleep(RETRY_DELAY);
        match Lister::open() {
            Ok(opened) => self.lister = opened,
            Err(error) => tracing::warn!(%error, "keeping the old socket"),
        }
    }
}

/// Opens a socket that hears of every change of an address.
fn open_events() -> Result<Socket, AddressError> {
    let open = || {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_IPV4_ADDRESS)?;
        socket.add_membership(GROUP_IPV6_ADDRESS)?;
        Ok(socket)
    };
    open().map_err(AddressError::Open)
}

/// Blocks until something changed, and swallows all that has been told by then. An error such as
/// ENOBUFS (notifications were lost) is a change like any other.
fn wait(events: &Socket, buffer: &mut [u8]) {
    let mut flags = RecvFlags::empty();
    loop {
        match recv(events, &mut *buffer, flags) {
            Ok(_) | Err(Errno::NOBUFS) => flags = RecvFlags::DONTWAIT,
            Err(Errno::AGAIN) => return,
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot hear of address changes; listing instead");
                thread::sleep(RETRY_DELAY);
                return;
            }
        }
    }
}
