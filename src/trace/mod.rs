//! `trace`: what becomes of the first packet of a connection on this node, and of its answer, by what the
//! kernel reports.

mod own_connection;

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_ipvs_core::model::NAME;
use netlink_ipvs::messages;

use crate::kernel::nft::list::ListedChain;
use crate::kernel::nft::trace::{
    CHAINS, ChainIndex, EVENT, PacketHeaders, RulePlace, TABLE, TraceEvent, TraceVerdict,
    WatchPoint,
};
pub(crate) use own_connection::OwnConnection;

/// The loopback device has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// By their numbers, `NF_INET_*`.
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;
/// The chain that a packet passes just before IPVS.
const BEFORE_IPVS: &str = "output-translated";
/// More hops than a packet has that comes to an end.
const MOST_HOPS: usize = 200;

/// Which of a connection's packets is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PacketRole {
    /// The first one, of the client.
    Request,
    /// The first one to the client.
    Answer,
}

/// One thing that a packet meets with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PacketHop {
    /// `None` of a chain that another program has just made.
    pub(crate) hook: Option<u32>,
    pub(crate) met: PacketMet,
}

pub(crate) fn hook_name(hook: Option<u32>) -> &'static str {
    hook.and_then(|hook| HOOKS.get(hook as usize)).unwrap_or(&"?")
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PacketMet {
    /// It comes by a link.
    Arrival(u32),
    /// A process of the node sends it.
    Sending,
    Rule(RulePlace, TraceVerdict),
    /// Its source, its destination or both have changed.
    Change {
        before: PacketHeaders,
        after: PacketHeaders,
        by: Translator,
    },
    /// It goes by a link.
    Departure(u32),
    /// A process of the node gets it.
    Delivery,
}

/// What has changed a packet's addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translator {
    /// The rule that the packet has met last.
    Rule,
    Ipvs,
    /// Connection tracking, as it has done with earlier packets, or what nf_tables does not show.
    Tracking,
}

/// How far a packet has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PacketFate {
    Underway,
    /// It has left the node, or a process has got it.
    Through,
    /// A rule or a policy has dropped it.
    Stopped(RulePlace),
}

/// A packet on its way through the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PacketPath {
    ids: BTreeSet<u32>,
    /// At its beginning.
    pub(crate) first: PacketHeaders,
    /// As seen last.
    pub(crate) last: PacketHeaders,
    pub(crate) hops: Vec<PacketHop>,
    pub(crate) fate: PacketFate,
    hook: Option<u32>,
    /// Whether a rule of this hook may have translated it.
    is_ruled: bool,
    /// Whether another packet has its id by now.
    is_past: bool,
}

/// How a connection went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TraceOutcome {
    /// No packet came.
    Nothing,
    /// The packet was dropped there.
    Stopped(PacketRole, RulePlace),
    /// The packet was gone after a hook (`NF_INET_*`), without a verdict.
    Gone(PacketRole, Option<u32>),
    /// The node itself has answered a packet that was gone after a hook.
    Returned(Option<u32>),
    /// The packet went on to an endpoint, and no answer came.
    Unanswered,
    /// The endpoint has reset the connection.
    Refused,
    /// An error of ICMP came back.
    Unreachable,
    Answered,
}

/// The request and the answer, as far as they have come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journey {
    chains: ChainIndex,
    pub(crate) request: Option<PacketPath>,
    pub(crate) answer: Option<PacketPath>,
    /// Of later packets of the connection.
    ignored: BTreeSet<u32>,
}

impl Journey {
    pub(crate) fn new(chains: ChainIndex) -> Self {
        Self { chains, ..Self::default() }
    }

    /// Adds what the kernel reports.
    pub(crate) fn add(&mut self, event: &TraceEvent) {
        let point = watch_point(&event.at);
        let hook = self.chains.hook(&event.at);
        if let (Some(point), Some(_)) = (point, event.at.handle)
            && !self.is_loop(event, hook)
        {
            self.begin(point, event, hook);
            return;
        }
        let Some(packet) = self.packet_of(event, hook) else { return };
        packet.see(event, point, hook);
        match point {
            Some(WatchPoint::Leaving) => packet.leave(event.output),
            Some(WatchPoint::Delivery) if event.headers.is_some() => packet.arrive(),
            Some(_) => {}
            None => packet.meet(event),
        }
    }

    /// Returns whether a packet that the node has sent to itself comes in, and is marked once more.
    fn is_loop(&self, event: &TraceEvent, hook: Option<u32>) -> bool {
        let is_it = |packet: &PacketPath| {
            let has_left = matches!(packet.hook, Some(OUTPUT | POSTROUTING));
            packet.fate == PacketFate::Underway
                && (has_left || packet.ids.contains(&event.id))
                && event.headers.is_some_and(|headers| headers.has_ends_of(&packet.last))
        };
        hook == Some(PREROUTING) && [&self.request, &self.answer].into_iter().flatten().any(is_it)
    }

    /// Begins with a packet that a rule of the table has marked.
    fn begin(&mut self, point: WatchPoint, event: &TraceEvent, hook: Option<u32>) {
        for packet in [&mut self.request, &mut self.answer].into_iter().flatten() {
            packet.is_past |= packet.ids.contains(&event.id);
        }
        let is_request = point == WatchPoint::Request;
        let place = if is_request { &mut self.request } else { &mut self.answer };
        match (&place, event.headers) {
            (None, Some(headers)) => {
                self.ignored.remove(&event.id);
                *place = Some(PacketPath::new(event, headers, hook));
            }
            _ => {
                self.ignored.insert(event.id);
            }
        }
    }

    /// Returns the packet that an event is about. Its id may change where the packet loops back to the
    /// node or its hash is computed again.
    fn packet_of(&mut self, event: &TraceEvent, hook: Option<u32>) -> Option<&mut PacketPath> {
        let packets = [&mut self.answer, &mut self.request].into_iter().flatten();
        let mut packets: Vec<_> = packets.filter(|it| !it.is_past).collect();
        let known = packets.iter().position(|it| it.ids.contains(&event.id));
        if self.ignored.contains(&event.id) && known.is_none() {
            return None;
        }
        let headers = event.headers;
        let index = known.or_else(|| {
            packets.iter().position(|it| {
                it.fate == PacketFate::Underway
                    && it.hook != hook
                    && headers.is_some_and(|headers| headers.has_ends_of(&it.last))
            })
        })?;
        let packet = packets.swap_remove(index);
        packet.ids.insert(event.id);
        Some(packet)
    }

    /// Returns the addresses that its packets have had.
    pub(crate) fn addresses(&self) -> BTreeSet<IpAddr> {
        let packets = [&self.request, &self.answer].into_iter().flatten();
        let headers = packets.flat_map(|packet| {
            let changes = packet.hops.iter().filter_map(|hop| match &hop.met {
                PacketMet::Change { after, .. } => Some(*after),
                _ => None,
            });
            changes.chain([packet.first, packet.last])
        });
        headers.flat_map(|it| [it.source.ip(), it.destination.ip()]).collect()
    }

    /// Returns whether nothing more is to come.
    pub(crate) fn is_over(&self) -> bool {
        let is_stopped = |packet: &PacketPath| matches!(packet.fate, PacketFate::Stopped(_));
        self.request.as_ref().is_some_and(is_stopped)
            || self.answer.as_ref().is_some_and(|answer| answer.fate != PacketFate::Underway)
    }

    /// Returns how the connection went, if nothing more comes.
    pub(crate) fn outcome(&self) -> TraceOutcome {
        let Some(request) = &self.request else { return TraceOutcome::Nothing };
        match (&request.fate, &self.answer) {
            (PacketFate::Stopped(at), _) => TraceOutcome::Stopped(PacketRole::Request, at.clone()),
            (PacketFate::Underway, None) => TraceOutcome::Gone(PacketRole::Request, request.hook),
            (PacketFate::Through, None) => TraceOutcome::Unanswered,
            (PacketFate::Underway, Some(answer)) if answer.is_of_node() => {
                TraceOutcome::Returned(request.hook)
            }
            (_, Some(answer)) => match &answer.fate {
                PacketFate::Stopped(at) => TraceOutcome::Stopped(PacketRole::Answer, at.clone()),
                PacketFate::Underway => TraceOutcome::Gone(PacketRole::Answer, answer.hook),
                PacketFate::Through if answer.first.resets => TraceOutcome::Refused,
                PacketFate::Through if !answer.first.has_ports() => TraceOutcome::Unreachable,
                PacketFate::Through => TraceOutcome::Answered,
            },
        }
    }
}

impl PacketPath {
    fn new(event: &TraceEvent, headers: PacketHeaders, hook: Option<u32>) -> Self {
        let met = event.input.map_or(PacketMet::Sending, PacketMet::Arrival);
        Self {
            ids: [event.id].into(),
            first: headers,
            last: headers,
            hops: vec![PacketHop { hook, met }],
            fate: PacketFate::Underway,
            hook,
            is_ruled: false,
            is_past: false,
        }
    }

    /// Returns whether the node has sent it.
    fn is_of_node(&self) -> bool {
        self.hops.first().is_some_and(|hop| hop.met == PacketMet::Sending)
    }

    fn push(&mut self, met: PacketMet) {
        if self.hops.len() < MOST_HOPS {
            self.hops.push(PacketHop { hook: self.hook, met });
        }
    }

    /// Notes the headers, which come with the first event of each base chain.
    fn see(&mut self, event: &TraceEvent, point: Option<WatchPoint>, hook: Option<u32>) {
        let Some(after) = event.headers else { return };
        let is_first = event.at.chain.ends_with("-begin") && point.is_some();
        let is_new = is_first || hook != self.hook;
        let before = std::mem::replace(&mut self.last, after);
        self.hook = hook.or(self.hook);
        self.is_ruled &= !is_new;
        if !after.has_ends_of(&before) {
            let by = self.translator(&before, &after, event, is_new);
            self.push(PacketMet::Change { before, after, by });
            self.is_ruled = false;
        }
        self.is_ruled &= event.at.chain != BEFORE_IPVS;
    }

    /// IPVS takes a packet in hook input or output, and sends it on from the beginning of output. It
    /// translates an answer in input, forward or output.
    fn translator(
        &self,
        before: &PacketHeaders,
        after: &PacketHeaders,
        event: &TraceEvent,
        is_new: bool,
    ) -> Translator {
        let is_ipvs = match self.hook {
            Some(OUTPUT) if is_new => before.destination != after.destination,
            Some(OUTPUT) => event.at.chain != BEFORE_IPVS && !self.is_ruled,
            Some(INPUT | FORWARD) => !self.is_ruled,
            _ => false,
        };
        match is_ipvs {
            true => Translator::Ipvs,
            false if self.is_ruled => Translator::Rule,
            false => Translator::Tracking,
        }
    }

    /// Notes a rule of ours, or of another program if it decides.
    fn meet(&mut self, event: &TraceEvent) {
        use TraceVerdict::{Accept, Continue, Drop, Goto, Jump, Queue, Stolen};
        let is_rule = event.at.handle.is_some();
        let decides = match event.verdict {
            Accept => is_rule,
            Drop | Stolen | Queue => true,
            Continue | Jump(_) | Goto(_) => false,
        };
        let is_ours = event.at.table == NAME;
        if decides || is_rule && is_ours {
            self.push(PacketMet::Rule(event.at.clone(), event.verdict.clone()));
            // In these hooks others filter, and IPVS translates.
            let translates = !matches!(self.hook, Some(INPUT | FORWARD));
            self.is_ruled |= matches!(event.verdict, Accept | Continue) && (translates || is_ours);
        }
        if event.verdict == Drop {
            self.fate = PacketFate::Stopped(event.at.clone());
        }
    }

    fn leave(&mut self, link: Option<u32>) {
        let Some(link) = link.filter(|link| *link != LOOPBACK) else { return };
        self.push(PacketMet::Departure(link));
        self.fate = PacketFate::Through;
    }

    fn arrive(&mut self) {
        self.push(PacketMet::Delivery);
        self.fate = PacketFate::Through;
    }
}

/// What a chain of the table is for; `None` of any other chain.
fn watch_point(at: &RulePlace) -> Option<WatchPoint> {
    let chain = CHAINS.iter().find(|(name, ..)| at.table == TABLE && *name == at.chain);
    chain.map(|(.., point)| *point)
}

/// What may have taken a packet that is gone after a hook.
pub(crate) fn suspects(hook: Option<u32>) -> &'static str {
    match hook {
        Some(PREROUTING) => {
            "the node has no route for it, or its reverse path filter has dropped it"
        }
        Some(INPUT | OUTPUT) => "IPVS has no endpoint for it, or no route to the endpoint",
        Some(POSTROUTING) => "the link is gone",
        _ => "the node has not sent it on",
    }
}

/// Follows a packet by the messages of a datagram, chains and events, and returns the number of its
/// hops. Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn replay(datagram: &[u8]) -> usize {
    let chains = messages(datagram).filter_map(|(_, payload)| ListedChain::decode(payload));
    let mut journey = Journey::new(ChainIndex::new(chains.collect()));
    let events = messages(datagram).filter(|(header, _)| header.kind == EVENT);
    events.filter_map(|(_, payload)| TraceEvent::decode(payload)).for_each(|it| journey.add(&it));
    let _ = (journey.outcome(), journey.is_over());
    [&journey.request, &journey.answer].into_iter().flatten().map(|it| it.hops.len()).sum()
}

#[cfg(test)]
mod tests;
