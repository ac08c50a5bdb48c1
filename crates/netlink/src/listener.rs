//! Notifications of changes in the kernel.

use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::Socket as RawSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{SockFilter, SockRef};

use super::{Header, KernelError, Subsystem, messages};

/// Larger than any notification.
const BUFFER: usize = 64 << 10;
/// The longest time of a read.
const LONGEST_READ: Duration = Duration::from_secs(1);
/// The wait after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Receives the notifications of multicast groups.
#[derive(Debug)]
pub struct Listener {
    socket: RawSocket,
    buffer: Box<[u8]>,
}

impl Listener {
    /// Joins `groups` (`RTNLGRP_*`, `NFNLGRP_*`) in this thread's network namespace. The kernel
    /// drops what `filter` does not accept, a classic BPF program over the message from its netlink
    /// header on; without a program it drops nothing.
    ///
    /// # Errors
    ///
    /// If the kernel has no netlink of this kind or does not know a group.
    pub fn open(
        protocol: Subsystem,
        groups: &[u32],
        filter: &[SockFilter],
    ) -> Result<Self, KernelError> {
        let (socket, _) = protocol.bind()?;
        if !filter.is_empty() {
            let attached = SockRef::from(&socket).attach_filter(filter);
            attached.map_err(KernelError::socket("setsockopt SO_ATTACH_FILTER"))?;
        }
        for group in groups {
            let joined = socket.add_membership(*group);
            joined.map_err(KernelError::socket("setsockopt NETLINK_ADD_MEMBERSHIP"))?;
        }
        Ok(Self { socket, buffer: vec![0; BUFFER].into() })
    }

    /// Passes the pending notifications to `take`. Returns whether notifications may be missing. If they
    /// come without a pause, it returns after a second, and [`wait`](Self::wait) does not wait.
    pub fn read(&mut self, mut take: impl FnMut(Header, &[u8])) -> bool {
        let mut incomplete = false;
        let start = Instant::now();
        while start.elapsed() < LONGEST_READ {
            match recv(&self.socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    messages(datagram).for_each(|(header, payload)| take(header, payload));
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => incomplete = true,
                Err(Errno::AGAIN) => return incomplete,
                Err(error) => {
                    pause(error);
                    return true;
                }
            }
        }
        incomplete
    }

    /// Waits until a listener has notifications, or for `limit`.
    pub fn wait(listeners: &[Self], limit: Option<Duration>) {
        let mut fds: Vec<_> =
            listeners.iter().map(|it| PollFd::new(&it.socket, PollFlags::IN)).collect();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => pause(error),
        }
    }
}

fn pause(error: Errno) {
    tracing::warn!(%error, "cannot receive notifications of changes in the kernel");
    thread::sleep(PAUSE);
}
