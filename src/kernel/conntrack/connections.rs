//! The connections of front ends, for people.

use std::borrow::Cow;
use std::net::SocketAddr;

use kube_ipvs_core::model::{Protocol, VirtualAddress};
use kube_ipvs_core::plan::Carrier;
use netlink_ipvs::KernelError;

use super::entry::ConntrackEntry;
use super::{Conntrack, Question};

/// `IPS_SEEN_REPLY`
const SEEN_REPLY: u32 = 1 << 1;
/// `IPS_OFFLOAD`
const OFFLOADED: u32 = 1 << 14;
/// `TCP_CONNTRACK_*`
const TCP_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];
/// `SCTP_CONNTRACK_*`
const SCTP_STATES: [&str; 9] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

/// A connection through a front end, as connection tracking has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackedConnection {
    pub client: SocketAddr,
    /// The address that the client has asked for.
    pub frontend: VirtualAddress,
    pub backend: SocketAddr,
    pub carrier: Carrier,
    /// Whether a flowtable carries it past the hooks.
    pub is_offloaded: bool,
    /// `None` of an offloaded connection, as is `seconds_left`.
    pub state: Option<Cow<'static, str>>,
    pub seconds_left: Option<u32>,
}

/// Connections, and how many there are in all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackedConnections {
    pub found: Vec<TrackedConnection>,
    pub count: usize,
}

impl Conntrack {
    /// Reads the connections through front ends that `is_meant`, and returns at most `most` of them.
    /// The unspecified address stands for any address.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn connections(
        &mut self,
        frontends: impl IntoIterator<Item = VirtualAddress>,
        most: usize,
        is_meant: impl Fn(&TrackedConnection) -> bool,
    ) -> Result<TrackedConnections, KernelError> {
        let questions = frontends.into_iter().map(Question::Destination).collect();
        let take = |all: &mut TrackedConnections, entry: ConntrackEntry| {
            let Some(connection) = connection(&entry).filter(&is_meant) else { return };
            all.count += 1;
            if all.found.len() < most {
                all.found.push(connection);
            }
        };
        let mut all = TrackedConnections::default();
        for answer in self.ask(questions, take) {
            let answer = answer?;
            all.count += answer.count;
            let room = most - all.found.len();
            all.found.extend(answer.found.into_iter().take(room));
        }
        Ok(all)
    }
}

fn connection(entry: &ConntrackEntry) -> Option<TrackedConnection> {
    let frontend = entry.frontend()?;
    let name =
        |names: &[&'static str]| names.get(usize::from(entry.state?)).copied().map(Cow::from);
    let is_offloaded = entry.status & OFFLOADED != 0;
    Some(TrackedConnection {
        client: entry.client,
        frontend,
        backend: entry.replier,
        carrier: entry.carrier,
        is_offloaded,
        state: match frontend.protocol {
            Protocol::Tcp => name(&TCP_STATES),
            Protocol::Sctp => name(&SCTP_STATES),
            Protocol::Udp if is_offloaded => None,
            Protocol::Udp if entry.status & SEEN_REPLY != 0 => Some("REPLIED".into()),
            Protocol::Udp => Some("UNREPLIED".into()),
        },
        seconds_left: entry.seconds_left,
    })
}
