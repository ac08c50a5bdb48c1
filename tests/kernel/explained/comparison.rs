//! A client and an address: what `explain` says of them, and whether it is what they met with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::explain::{Candidate, Explanation, Source, Verdict, explain};
use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};

use crate::lab::{Host, NODE_PORT_OF_DAEMON, Namespace, Reply, Silence};

/// What a client met with, once or several times.
pub(crate) type Met = Vec<Result<Reply, Silence>>;

/// A client that connects to an address.
pub(crate) struct Pair {
    pub(crate) from: Host,
    pub(crate) explained: Explanation,
    /// Which address the node's kernel makes the source of what it sends there: to backends that
    /// see the node instead of the client, and to where the node's own processes lookup.
    sources: BTreeMap<IpAddr, IpAddr>,
}

impl Pair {
    /// A pair, explained; with the addresses that the node has now.
    pub(crate) fn new(
        programs: &DesiredState,
        node: &Namespace,
        from: Host,
        to: &VirtualAddress,
    ) -> io::Result<Self> {
        let source = match from {
            Host::N1 => Source::Node,
            other => Source::Address(other.ip(Family::of(to.ip))),
        };
        let explained = explain(programs, *to, source);
        let masqueraded = explained.backends.iter().filter(|candidate| candidate.masquerade);
        let towards = masqueraded.map(|candidate| candidate.backend.address);
        let towards: BTreeSet<_> = towards.chain((from == Host::N1).then_some(to.ip)).collect();
        let sources = match towards.is_empty() {
            true => BTreeMap::new(),
            false => {
                node.inside(|| towards.into_iter().map(with_source).collect::<io::Result<_>>())?
            }
        };
        Ok(Self { from, explained, sources })
    }

    /// The address that a backend sees as the client's.
    fn seen(&self, candidate: &Candidate) -> Option<IpAddr> {
        let towards = match (candidate.masquerade, self.from) {
            (true, _) => candidate.backend.address,
            (false, Host::N1) => self.to().ip,
            (false, other) => return Some(other.ip(Family::of(self.to().ip))),
        };
        self.sources.get(&towards).copied()
    }

    /// Whether the client is told something: an answer, or that there is none.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.explained.verdict, Verdict::Forward | Verdict::Reject)
    }

    /// The address that it connects to.
    pub(crate) fn to(&self) -> VirtualAddress {
        self.explained.destination
    }

    /// How many backends should be met with in the end. Affinity lets a client meet only one.
    pub(crate) fn backends(&self) -> usize {
        match self.explained.affinity_seconds {
            Some(_) => self.explained.backends.len().min(1),
            None => self.explained.backends.len(),
        }
    }

    fn candidate(&self, reply: &Reply) -> Option<&Candidate> {
        let at = SocketAddr::new(reply.server.ip(Family::of(self.to().ip)), reply.port);
        let is_it = |it: &&Candidate| at == SocketAddr::new(it.backend.address, it.backend.port);
        self.explained.backends.iter().find(is_it)
    }

    /// Whether one answer, or the lack of one, is what was explained.
    fn accepts(&self, met: &Result<Reply, Silence>) -> bool {
        match (self.explained.verdict, met) {
            (Verdict::Forward, Ok(reply)) => self
                .candidate(reply)
                .is_some_and(|candidate| self.seen(candidate) == Some(reply.client.ip())),
            (Verdict::Reject, Err(Silence::Refused)) | (Verdict::Drop, Err(Silence::TimedOut)) => {
                true
            }
            // The node's own datagrams are stopped before they are sent, either way.
            (Verdict::Reject | Verdict::Drop, Err(Silence::Forbidden)) => {
                self.from == Host::N1 && self.to().protocol == Protocol::Udp
            }
            // Left alone: whatever happens there, no endpoint of a Service answers, and no process
            // of the node at an address that is a Service's.
            (Verdict::Pass, Ok(reply)) => {
                reply.port == NODE_PORT_OF_DAEMON && reply.server.has(self.to().ip)
            }
            (Verdict::Pass, Err(_)) => true,
            _ => false,
        }
    }
}

/// An address, and what the kernel of this thread's namespace makes the source of what it sends
/// there. It chooses as for what it masquerades; nothing is sent.
fn with_source(to: IpAddr) -> io::Result<(IpAddr, IpAddr)> {
    let any: IpAddr = match Family::of(to) {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, 9))?;
    Ok((to, socket.local_addr()?.ip()))
}

/// Returns whether all expected servers have answered.
pub(crate) fn has_met_all(pair: &Pair, met: &Met) -> bool {
    servers(met).len() >= pair.backends()
}

/// Whether a client who is to stay with one backend has met several.
pub(crate) fn strays(pair: &Pair, met: &Met) -> bool {
    pair.explained.affinity_seconds.is_some() && servers(met).len() > 1
}

/// What differs from what was explained, if anything does.
pub(crate) fn contradiction(pair: &Pair, met: &Met) -> Option<String> {
    let differs = !met.iter().all(|it| pair.accepts(it));
    differs.then(|| describe(pair, met))
}

/// The pair, what was explained, and what it met with.
pub(crate) fn describe(pair: &Pair, met: &Met) -> String {
    let Explanation { destination, service, verdict, reason, backends, .. } = &pair.explained;
    let service = service.as_ref().map_or_else(String::new, |(key, _)| format!(" of {key}"));
    let mut said = format!("{verdict}: {reason}");
    for candidate in backends {
        let Candidate { backend, masquerade } = candidate;
        let how = if *masquerade { " masqueraded" } else { "" };
        said.push_str(&format!("; {}{how}", SocketAddr::new(backend.address, backend.port)));
        if let Some(seen) = pair.seen(candidate) {
            said.push_str(&format!(" sees {seen}"));
        }
    }
    let met: BTreeSet<String> = met
        .iter()
        .map(|it| match it {
            Ok(reply) => format!("{}:{} sees {}", reply.server, reply.port, reply.client.ip()),
            Err(silence) => silence.to_string(),
        })
        .collect();
    let met = Vec::from_iter(met).join("; ");
    format!("    {} to {destination}{service}\n      said  {said}\n      met   {met}", pair.from)
}

fn servers(met: &Met) -> BTreeSet<(Host, u16)> {
    met.iter().flatten().map(|reply| (reply.server, reply.port)).collect()
}
