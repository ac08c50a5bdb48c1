//! A client and an address: what `explain` says of them, and whether it is what they met with.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kube_ipvs::engine::Programs;
use kube_ipvs::explain::{Candidate, Explanation, Source, Verdict, explain};
use kube_ipvs::model::{Family, Protocol, VirtualAddress};

use crate::lab::{Host, NODE_PORT_OF_DAEMON, Reply, Silence};

/// What a client met with, once or several times.
pub(crate) type Met = Vec<Result<Reply, Silence>>;

/// A client that knocks at an address.
pub(crate) struct Pair {
    pub(crate) from: Host,
    pub(crate) explained: Explanation,
}

impl Pair {
    /// A pair, explained.
    pub(crate) fn new(programs: &Programs, from: Host, to: &VirtualAddress) -> Self {
        let source = match from {
            Host::N1 => Source::Node,
            other => Source::Address(other.ip(Family::of(to.ip))),
        };
        Self { from, explained: explain(programs, *to, source) }
    }

    /// Whether the client is told something: an answer, or that there is none.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.explained.verdict, Verdict::Forward | Verdict::Reject)
    }

    /// Where it knocks.
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
            (Verdict::Forward, Ok(reply)) => self.candidate(reply).is_some_and(|candidate| {
                let seen = if candidate.masquerade { Host::N1 } else { self.from };
                seen.has(reply.client.ip())
            }),
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

/// Whether everybody who should answer has done so.
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
    for Candidate { backend, masquerade } in backends {
        let how = if *masquerade { " masqueraded" } else { "" };
        said.push_str(&format!("; {}{how}", SocketAddr::new(backend.address, backend.port)));
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
