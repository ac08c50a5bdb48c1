//! Connection tracking over ctnetlink: entries that keep clients on a removed endpoint, and the
//! connections of draining endpoints.

mod connections;
mod entry;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use entry::{
    CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_PROTO_DST_PORT, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT,
    CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, ConntrackEntry,
};
use kube_ipvs_core::model::{Family, Protocol as Transport, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Failure, FailureKind, FlowOperation, Outcome, Running};
use netlink_ipvs::{Attributes, Batch, KernelError, NetlinkError, Socket, Subsystem};
use rustix::io::Errno;

pub use connections::{TrackedConnection, TrackedConnections};

use crate::kernel::family::{self, netfilter_header};
use crate::kernel::sysctl;

/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET.
const GET: u16 = 1 << 8 | 1;
/// NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_DELETE.
const DELETE: u16 = 1 << 8 | 2;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const FILTER_SOURCE: u32 = 1 << 0;
const FILTER_DESTINATION: u32 = 1 << 1;
const FILTER_PROTOCOL: u32 = 1 << 3;
const FILTER_SOURCE_PORT: u32 = 1 << 4;
const FILTER_DESTINATION_PORT: u32 = 1 << 5;
/// The kernel searches its whole table for each question, at a thirtieth of the cost of a full
/// dump. Beyond this many questions, one dump of all entries of a protocol is cheaper.
const MOST_QUESTIONS: usize = 8;
/// Bytes per send.
const CHUNK: usize = 64 << 10;

/// Settings: the entries in use, and the most that there may be.
const COUNT: &str = "net/netfilter/nf_conntrack_count";
const MAX: &str = "net/netfilter/nf_conntrack_max";

/// The connection tracking table of a network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    batch: Batch,
    sweeps: Vec<Sweep>,
}

/// The deletion of the entries of a family, for the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sweep {
    pub family: Family,
    pub deleted: usize,
    pub took: Duration,
}

impl Conntrack {
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self::over(Socket::open(Subsystem::Netfilter)?))
    }

    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, batch: Batch::default(), sweeps: Vec::new() }
    }

    /// Executes operations, those of a family together: if one fails, all of the family fail.
    pub fn apply(&mut self, operations: &[FlowOperation]) -> Vec<Outcome> {
        let outcomes = Family::BOTH.map(|family| self.sweep(family, operations));
        let outcome = |operation: &FlowOperation| {
            let of_family = operation.frontend.family().pick(&outcomes);
            of_family.as_ref().map(drop).map_err(|error| Failure {
                kind: FailureKind::Refused,
                message: format!("{operation}: {error}"),
            })
        };
        operations.iter().map(outcome).collect()
    }

    /// Returns the deletions since the last call.
    pub fn take_sweeps(&mut self) -> Vec<Sweep> {
        std::mem::take(&mut self.sweeps)
    }

    fn sweep(&mut self, family: Family, operations: &[FlowOperation]) -> Result<(), KernelError> {
        let of_family = |operation: &&FlowOperation| operation.frontend.family() == family;
        let operations: Vec<_> = operations.iter().filter(of_family).copied().collect();
        if operations.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let deleted = self.delete(&operations);
        let count = *deleted.as_ref().unwrap_or(&0);
        self.sweeps.push(Sweep { family, deleted: count, took: start.elapsed() });
        deleted.map(drop)
    }

    /// Counts the connections of draining endpoints, without closed connections.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn count(&mut self, targets: &CountTargets) -> Result<Vec<Running>, KernelError> {
        let backends = targets.backends.iter();
        let backends = backends.map(|(protocol, socket)| Question::Backend(*protocol, *socket));
        let frontends = targets.frontends.iter().copied().map(Question::Destination);
        let questions = backends.chain(frontends).collect();
        let running = |entry: ConntrackEntry| {
            let frontend = entry.frontend().filter(|_| !entry.is_closed())?;
            let leaves = targets.frontends.contains(&frontend)
                || targets.backends.contains(&(frontend.protocol, entry.replier));
            leaves.then_some((frontend, entry.replier, entry.carrier))
        };
        let take = |found: &mut Vec<_>, entry| found.extend(running(entry));
        let mut counts: HashMap<_, u64> = HashMap::new();
        for found in self.ask(questions, take) {
            for of in found? {
                *counts.entry(of).or_default() += 1;
            }
        }
        let running =
            |((frontend, backend, carrier), count)| Running { frontend, backend, carrier, count };
        Ok(counts.into_iter().map(running).collect())
    }

    /// Deletes the entries that match operations, and returns their number.
    ///
    /// # Errors
    ///
    /// If the table cannot be read, or an entry cannot be deleted. All others are deleted by then.
    pub fn delete(&mut self, operations: &[FlowOperation]) -> Result<usize, KernelError> {
        let wanted = by_frontend(operations);
        let mut entries = Vec::new();
        let mut read = Ok(());
        let questions = wanted.keys().copied().map(Question::Destination).collect();
        let meant = |entry| is_meant(&entry, &wanted).then_some(entry);
        for found in self.ask(questions, |found: &mut Vec<_>, entry| found.extend(meant(entry))) {
            match found {
                Ok(found) => entries.extend(found),
                Err(error) => read = Err(error),
            }
        }
        let deleted = self.delete_entries(&entries);
        read.and(deleted)
    }

    /// Returns for each question, or for a few broader ones, what `take` collects of the entries that
    /// match it. An entry that matches several questions counts once.
    fn ask<T: Default>(
        &mut self,
        questions: BTreeSet<Question>,
        take: impl Fn(&mut T, ConntrackEntry),
    ) -> impl Iterator<Item = Result<T, KernelError>> {
        let questions = few(questions);
        questions.clone().into_iter().map(move |question| {
            self.find(question, |found, entry| {
                if questions.iter().find(|it| it.has(&entry)) == Some(&question) {
                    take(found, entry);
                }
            })
        })
    }

    /// Returns what `take` collects of the kernel's answer to a question.
    fn find<T: Default>(
        &mut self,
        question: Question,
        take: impl Fn(&mut T, ConntrackEntry),
    ) -> Result<T, KernelError> {
        match self.dump(question, true, &take) {
            // A kernel that knows filters, but not this one.
            Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                self.dump(question, false, &take)
            }
            found => found,
        }
    }

    /// Dumps entries. A kernel before 5.8 does not know the filter and sends its whole table, so
    /// the caller compares each entry.
    fn dump<T: Default>(
        &mut self,
        question: Question,
        filtered: bool,
        take: impl Fn(&mut T, ConntrackEntry),
    ) -> Result<T, KernelError> {
        self.socket.dump(
            "connection tracking entries",
            GET,
            |message| {
                netfilter_header(message, family::number(question.family()), 0);
                if filtered {
                    filter(message, question);
                }
            },
            |found: &mut T, _, body| {
                if let Some(entry) = ConntrackEntry::decode(body) {
                    take(found, entry);
                }
            },
        )
    }

    /// Deletes entries. A failure does not stop the others.
    fn delete_entries(&mut self, entries: &[ConntrackEntry]) -> Result<usize, KernelError> {
        let mut outcome = Ok(0);
        let mut rest = entries;
        while !rest.is_empty() {
            self.batch.clear();
            while self.batch.size() < CHUNK
                && let Some(entry) = rest.get(self.batch.len())
            {
                self.batch.push(DELETE, 0, |message| {
                    netfilter_header(message, entry.family, 0);
                    for (kind, value) in &entry.identity {
                        message.bytes(*kind, value);
                    }
                });
            }
            let sent = self.batch.len();
            match self.socket.transact(&mut self.batch, sent - 1) {
                Ok(answers) => {
                    for answer in answers {
                        outcome = tally(outcome, answer);
                    }
                }
                Err(error) => outcome = Err(error),
            }
            rest = rest.get(sent..).unwrap_or_default();
        }
        outcome
    }
}

/// Counts the deleted entries, up to the first error.
fn tally(
    deleted: Result<usize, KernelError>,
    answer: Option<Result<(), NetlinkError>>,
) -> Result<usize, KernelError> {
    let deleted = deleted?;
    match answer {
        Some(Ok(())) => Ok(deleted + 1),
        // It ended by itself.
        Some(Err(error)) if error.errno == Errno::NOENT => Ok(deleted),
        Some(Err(error)) => Err(KernelError::refused("deleting a connection", error)),
        None => Err(KernelError::Lost("deleting connections")),
    }
}

/// The entries of one dump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Question {
    /// The entries of one destination; without an address, those of its port at any address.
    Destination(VirtualAddress),
    /// The entries whose replies come from an endpoint.
    Backend(Transport, SocketAddr),
    /// All entries of a family and protocol.
    All(Family, Transport),
}

impl Question {
    fn family(self) -> Family {
        match self {
            Self::Destination(destination) => destination.family(),
            Self::Backend(_, socket) => Family::of(socket.ip()),
            Self::All(family, _) => family,
        }
    }

    fn protocol(self) -> Transport {
        match self {
            Self::Destination(destination) => destination.protocol,
            Self::Backend(protocol, _) | Self::All(_, protocol) => protocol,
        }
    }

    fn has(self, entry: &ConntrackEntry) -> bool {
        entry.frontend().is_some_and(|frontend| match self {
            Self::Destination(destination) => {
                let is_port =
                    destination.ip.is_unspecified() && frontend.family() == destination.family();
                frontend == if is_port { destination.at(frontend.ip) } else { destination }
            }
            Self::Backend(protocol, socket) => {
                frontend.protocol == protocol && entry.replier == socket
            }
            Self::All(family, protocol) => {
                frontend.family() == family && frontend.protocol == protocol
            }
        })
    }
}

/// Returns the same questions, or a few broader ones instead of many.
fn few(questions: BTreeSet<Question>) -> BTreeSet<Question> {
    if questions.len() <= MOST_QUESTIONS {
        return questions;
    }
    questions.into_iter().map(|it| Question::All(it.family(), it.protocol())).collect()
}

fn by_frontend(operations: &[FlowOperation]) -> HashMap<VirtualAddress, Vec<FlowOperation>> {
    let mut by_frontend: HashMap<_, Vec<_>> = HashMap::new();
    for operation in operations {
        by_frontend.entry(operation.frontend).or_default().push(*operation);
    }
    by_frontend
}

/// Returns whether an operation matches an entry.
fn is_meant(
    entry: &ConntrackEntry,
    operations: &HashMap<VirtualAddress, Vec<FlowOperation>>,
) -> bool {
    let means = |operation: &FlowOperation| {
        operation.backend.is_none_or(|backend| backend == entry.replier)
            && operation.carrier.is_none_or(|carrier| carrier == entry.carrier)
    };
    let operations = entry.frontend().and_then(|frontend| operations.get(&frontend));
    operations.is_some_and(|operations| operations.iter().any(means))
}

/// Asks the kernel for the matching entries only.
///
/// IPv6 addresses are left out of the filter: up to Linux 6.1 at least, the kernel skips the equal ones
/// instead of the others (`ctnetlink_filter_match_tuple`).
fn filter(message: &mut Attributes<'_>, question: Question) {
    let (tuple, flags, side) = match question {
        Question::Backend(_, socket) => {
            let at = (CTA_IP_V4_SRC, FILTER_SOURCE, CTA_PROTO_SRC_PORT, FILTER_SOURCE_PORT);
            (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS, Some((socket, at)))
        }
        Question::Destination(it) => {
            let at =
                (CTA_IP_V4_DST, FILTER_DESTINATION, CTA_PROTO_DST_PORT, FILTER_DESTINATION_PORT);
            (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, Some((SocketAddr::new(it.ip, it.port), at)))
        }
        Question::All(..) => (CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, None),
    };
    let mut compared = FILTER_PROTOCOL;
    message.nest(tuple, |tuple| {
        if let Some((socket, (kind, compares, ..))) = side
            && socket.is_ipv4()
            && !socket.ip().is_unspecified()
        {
            compared |= compares;
            tuple.nest(CTA_TUPLE_IP, |ip| ip.ip(kind, socket.ip()));
        }
        tuple.nest(CTA_TUPLE_PROTO, |protocol| {
            protocol.bytes(CTA_PROTO_NUM, &[question.protocol().number()]);
            if let Some((socket, (.., kind, compares))) = side {
                compared |= compares;
                protocol.u16_be(kind, socket.port());
            }
        });
    });
    message.nest(CTA_FILTER, |filter| filter.u32(flags, compared));
}

/// How full the connection tracking table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConntrackUse {
    pub entries: u64,
    /// 0 for no limit.
    pub limit: u64,
}

/// Reads two kernel settings; `None` while connection tracking is not loaded.
#[must_use]
pub fn usage() -> Option<ConntrackUse> {
    let number = |path| sysctl::read(sysctl::ROOT, path).ok()?.parse().ok();
    Some(ConntrackUse { entries: number(COUNT)?, limit: number(MAX)? })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube_ipvs_core::plan::Carrier;

    use super::*;

    fn wanted(frontend: &str, backend: Option<&str>) -> FlowOperation {
        FlowOperation {
            frontend: format!("{frontend}/udp").parse().unwrap(),
            backend: backend.map(|b| b.parse().unwrap()),
            carrier: None,
        }
    }

    fn entry(protocol: Transport, destination: &str, replier: &str) -> ConntrackEntry {
        ConntrackEntry {
            family: 2,
            protocol: protocol.number(),
            client: "10.244.1.9:4000".parse().unwrap(),
            destination: destination.parse().unwrap(),
            replier: replier.parse().unwrap(),
            carrier: Carrier::Tracking,
            status: 0,
            state: None,
            seconds_left: None,
            identity: Vec::new(),
        }
    }

    #[test]
    fn only_what_the_named_endpoint_answers_matches() {
        use Transport::{Tcp, Udp};

        let means = |operation, entry: &_| is_meant(entry, &by_frontend(&[operation]));
        let one = wanted("10.96.0.10:53", Some("10.244.1.5:53"));
        assert!(means(one, &entry(Udp, "10.96.0.10:53", "10.244.1.5:53")));
        assert!(!means(one, &entry(Udp, "10.96.0.10:53", "10.244.1.6:53")));
        assert!(!means(one, &entry(Udp, "10.96.0.10:54", "10.244.1.5:53")));
        assert!(!means(one, &entry(Tcp, "10.96.0.10:53", "10.244.1.5:53")));
        let by_ipvs = ConntrackEntry {
            carrier: Carrier::Ipvs,
            ..entry(Udp, "10.96.0.10:53", "10.244.1.5:53")
        };
        assert!(means(one, &by_ipvs));
        assert!(!means(FlowOperation { carrier: Some(Carrier::Tracking), ..one }, &by_ipvs));
        let any = wanted("10.96.0.10:53", None);
        assert!(means(any, &entry(Udp, "10.96.0.10:53", "10.244.1.6:53")));
    }

    #[test]
    fn an_entry_answers_what_it_was_asked_for() {
        let entry = entry(Transport::Tcp, "10.96.0.10:80", "10.244.1.5:8080");
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let destination = |text: &str| Question::Destination(text.parse().unwrap());
        for (question, expected) in [
            (destination("10.96.0.10:80"), true),
            (destination("10.96.0.10:81"), false),
            (destination("0.0.0.0:80"), true),
            (destination("0.0.0.0:81"), false),
            (destination("[::]:80"), false),
            (Question::Backend(Transport::Tcp, at("10.244.1.5:8080")), true),
            (Question::Backend(Transport::Tcp, at("10.244.1.6:8080")), false),
            (Question::Backend(Transport::Udp, at("10.244.1.5:8080")), false),
            (Question::All(Family::V4, Transport::Tcp), true),
            (Question::All(Family::V6, Transport::Tcp), false),
        ] {
            assert_eq!(question.has(&entry), expected, "{question:?}");
        }
    }

    #[test]
    fn many_destinations_become_one_question_per_family_and_protocol() {
        let mut matches: Vec<_> =
            (1..=20).map(|n| wanted(&format!("10.96.0.{n}:53"), None)).collect();
        let questions = |operations: &[FlowOperation]| {
            few(by_frontend(operations).into_keys().map(Question::Destination).collect())
        };
        assert_eq!(questions(&matches[..3]).len(), 3);
        assert_eq!(questions(&matches).len(), 1);
        matches.push(wanted("[fd00::1]:53", None));
        let both = Family::BOTH.map(|family| Question::All(family, Transport::Udp)).into();
        assert_eq!(questions(&matches), both);
    }
}
