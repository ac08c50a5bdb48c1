//! Traces the first packets of one connection, and of their answers.
//!
//! A table of its own marks them. The kernel then reports each rule that a marked packet matches, of
//! every table, and the packet's headers at the beginning of each base chain.

mod event;
mod rules;
mod table;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use netlink_ipvs::{KernelError, Listener, Socket, Subsystem};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket as UnixSocket, Type};

use super::constants::table as nfta_table;
use super::request::{delete_table, message_type, submit};
use super::table::TableFamily;

#[cfg(test)]
pub(crate) use event::samples;
pub(crate) use event::{PacketHeaders, RulePlace, TraceEvent, TraceVerdict};
pub(crate) use rules::{ChainIndex, RuleText};
pub use table::TracedFlow;
pub(crate) use table::{CHAINS, WatchPoint};

/// The name of the table.
pub const TABLE: &str = "kube-ipvs-trace";
/// `NFNLGRP_NFTRACE`
const GROUP: u32 = 9;
/// `NFT_MSG_TRACE`
pub(crate) const EVENT: u16 = message_type(17);
/// An abstract socket: its name belongs to the network namespace and is free as soon as the process
/// that owns it ends.
const SOLE: &str = "kube-ipvs/trace";

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("another trace runs on this node; try again when it has ended")]
    Busy,
    #[error("a socket that allows one trace at a time: {0}")]
    Lock(io::Error),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A trace that runs. The table goes with this value; from Linux 5.12 on it also goes with the process.
#[derive(Debug)]
pub struct Tracer {
    socket: Socket,
    listeners: [Listener; 1],
    family: TableFamily,
    chains: ChainIndex,
    _sole: UnixListener,
}

impl Tracer {
    /// Begins to trace the first connection that `flow` describes, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    ///
    /// If another trace runs, or the kernel refuses the table.
    pub fn start(flow: &TracedFlow) -> Result<Self, TraceError> {
        let sole = sole()?;
        let mut socket = Socket::open(Subsystem::Netfilter)?;
        let family = TableFamily::from(flow.destination.family());
        delete_all(&mut socket)?;
        let listeners = [Listener::open(Subsystem::Netfilter, &[GROUP], &[])?];
        let mut create = |flags| {
            submit(&mut socket, "nft add table kube-ipvs-trace", |batch| {
                table::create(batch, flow, flags);
            })
        };
        match create(nfta_table::FLAG_OWNER) {
            // The flag is newer than this kernel.
            Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                create(0)?;
            }
            created => created?,
        }
        let chains = ChainIndex::read(&mut socket)?;
        Ok(Self { socket, listeners, family, chains, _sole: sole })
    }

    pub(crate) fn chains(&self) -> &ChainIndex {
        &self.chains
    }

    /// Waits for events, or for `limit`, and passes them to `take`. Returns whether some may be missing.
    pub(crate) fn read(&mut self, limit: Duration, mut take: impl FnMut(&TraceEvent)) -> bool {
        Listener::wait(&self.listeners, Some(limit));
        let [listener] = &mut self.listeners;
        listener.read(|header, payload| {
            if header.kind == EVENT
                && let Some(event) = TraceEvent::decode(payload)
            {
                take(&event);
            }
        })
    }

    /// Reads what a rule says.
    pub(crate) fn rule(&mut self, at: &RulePlace) -> RuleText {
        self.chains.rule(&mut self.socket, at)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // What is left in spite of this, `doctor` names.
        let _ = delete(&mut self.socket, self.family);
    }
}

/// Returns the tables that a trace has left which was killed on a kernel before 5.12, each as the
/// arguments of `nft`; none while a trace runs.
///
/// # Errors
///
/// If the kernel cannot be read.
pub fn left() -> Result<Vec<String>, KernelError> {
    let families = ChainIndex::read(&mut Socket::open(Subsystem::Netfilter)?)?.families_of(TABLE);
    // Asked afterwards: a trace has the name before it makes its table.
    Ok(if is_running() { Vec::new() } else { named(&families) })
}

/// Returns whether a process has the name of traces. It may be any process, which may leave connections
/// to it unanswered, so this does not wait for one.
fn is_running() -> bool {
    let connect = || {
        let socket = UnixSocket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(format!("\0{SOLE}"))?)
    };
    !connect().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Deletes what [`left`] names, and returns it.
///
/// # Errors
///
/// If the kernel cannot be read, or refuses to delete a table.
pub fn delete_left() -> Result<Vec<String>, KernelError> {
    let Ok(_sole) = sole() else { return Ok(Vec::new()) };
    delete_all(&mut Socket::open(Subsystem::Netfilter)?)
}

fn delete_all(socket: &mut Socket) -> Result<Vec<String>, KernelError> {
    let families = ChainIndex::read(socket)?.families_of(TABLE);
    families.iter().try_for_each(|family| delete(socket, *family))?;
    Ok(named(&families))
}

fn named(families: &[TableFamily]) -> Vec<String> {
    families.iter().map(|family| format!("{} {TABLE}", family.name())).collect()
}

fn sole() -> Result<UnixListener, TraceError> {
    let bound = SocketAddr::from_abstract_name(SOLE).and_then(|it| UnixListener::bind_addr(&it));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => TraceError::Busy,
        _ => TraceError::Lock(error),
    })
}

fn delete(socket: &mut Socket, family: TableFamily) -> Result<(), KernelError> {
    submit(socket, "nft delete table kube-ipvs-trace", |batch| {
        delete_table(batch, family, TABLE);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_whose_owner_answers_nothing_is_in_use() -> io::Result<()> {
        assert!(!is_running());
        let owner = UnixSocket::new(Domain::UNIX, Type::STREAM, None)?;
        owner.bind(&SockAddr::unix(format!("\0{SOLE}"))?)?;
        owner.listen(0)?;
        // The first fills the queue.
        assert!(is_running() && is_running() && is_running());
        drop(owner);
        assert!(!is_running());
        Ok(())
    }
}
