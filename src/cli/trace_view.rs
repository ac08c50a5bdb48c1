//! The JSON and text of `trace`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use kube_ipvs_core::model::{NAME, VirtualAddress};
use netlink_ipvs::KernelError;
use serde::{Deserialize, Serialize};

use super::connections_view::PeerView;
use super::names::Names;
use crate::agent::api::ExplainView;
use crate::kernel::nft::trace::{RulePlace, RuleText, TraceVerdict};
use crate::kernel::route::Network;
use crate::trace::{
    Journey, PacketHop, PacketMet, PacketRole, TraceOutcome, Translator, hook_name, suspects,
};

/// `explain`'s verdict on a connection that goes to an endpoint.
const FORWARD: &str = "forward";

/// A traced connection, as `trace -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct TraceView {
    client: PeerView,
    destination: String,
    /// As `explain` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    hops: Vec<HopView>,
    /// `answered`, `refused`, `dropped`, `unanswered` or `gone`.
    outcome: String,
    summary: String,
}

/// A hop: one of the fields after `hook` says what has happened.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct HopView {
    /// `request` or `answer`.
    packet: String,
    hook: String,
    /// The interface by which the packet comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    arrives: Option<String>,
    /// The interface by which the packet leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves: Option<String>,
    /// `sent` or `delivered`, by or to a process of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    translated: Option<TranslationView>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct RuleView {
    /// Family and name.
    table: String,
    chain: String,
    /// `null` of a chain's policy.
    handle: Option<u64>,
    /// Of the agent's own rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    verdict: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct TranslationView {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<PeerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<PeerView>,
    /// `rule`, `IPVS` or `connection tracking`.
    by: String,
}

impl TraceView {
    /// Describes a connection of which a packet has come.
    ///
    /// # Errors
    ///
    /// If the node's links cannot be read.
    pub(super) fn new(
        journey: &Journey,
        to: VirtualAddress,
        names: &Names,
        explanation: Option<&ExplainView>,
        rule: impl FnMut(&RulePlace) -> RuleText,
    ) -> Result<Self, KernelError> {
        let links = Network::open()?.links()?;
        let links = links.into_iter().map(|link| (link.index, link.name.to_string())).collect();
        let mut writer = ViewWriter { names, links, rule };
        let mut hops = Vec::new();
        for (role, packet) in [("request", &journey.request), ("answer", &journey.answer)] {
            let packet = packet.iter().flat_map(|it| &it.hops);
            hops.extend(packet.map(|hop| writer.hop(role, hop)));
        }
        let client = journey.request.as_ref().map(|it| it.first.source);
        let client = client.unwrap_or_else(|| SocketAddr::new(to.family().unspecified(), 0));
        let (outcome, summary) = writer.summary(journey, explanation);
        Ok(Self {
            client: writer.peer(client),
            destination: to.to_string(),
            service: explanation.and_then(|it| it.service.clone()),
            hops,
            outcome: outcome.to_owned(),
            summary,
        })
    }
}

/// What names a view needs.
struct ViewWriter<'a, F> {
    names: &'a Names,
    links: BTreeMap<u32, String>,
    rule: F,
}

impl<F: FnMut(&RulePlace) -> RuleText> ViewWriter<'_, F> {
    fn peer(&self, at: SocketAddr) -> PeerView {
        PeerView::new(at, self.names.backend(at))
    }

    fn link(&self, index: u32) -> String {
        self.links.get(&index).cloned().unwrap_or_else(|| format!("interface {index}"))
    }

    fn hop(&mut self, role: &str, hop: &PacketHop) -> HopView {
        let mut view = HopView {
            packet: role.to_owned(),
            hook: hook_name(hop.hook).to_owned(),
            ..HopView::default()
        };
        match &hop.met {
            PacketMet::Arrival(link) => view.arrives = Some(self.link(*link)),
            PacketMet::Departure(link) => view.leaves = Some(self.link(*link)),
            PacketMet::Sending => view.process = Some("sent".to_owned()),
            PacketMet::Delivery => view.process = Some("delivered".to_owned()),
            PacketMet::Rule(at, verdict) => view.rule = Some(self.rule(at, verdict)),
            PacketMet::Change { before, after, by } => {
                let changed =
                    |before: SocketAddr, after| (before != after).then(|| self.peer(after));
                view.translated = Some(TranslationView {
                    source: changed(before.source, after.source),
                    destination: changed(before.destination, after.destination),
                    by: match by {
                        Translator::Rule => "rule",
                        Translator::Ipvs => "IPVS",
                        Translator::Tracking => "connection tracking",
                    }
                    .to_owned(),
                });
            }
        }
        view
    }

    fn rule(&mut self, at: &RulePlace, verdict: &TraceVerdict) -> RuleView {
        let RuleText { text, rejects } = (self.rule)(at);
        RuleView {
            table: format!("{} {}", at.family.name(), at.table),
            chain: at.chain.clone(),
            handle: at.handle,
            text,
            verdict: match verdict {
                TraceVerdict::Accept => "accept".to_owned(),
                TraceVerdict::Drop if rejects => "reject".to_owned(),
                TraceVerdict::Drop => "drop".to_owned(),
                TraceVerdict::Stolen => "stolen".to_owned(),
                TraceVerdict::Queue => "queue".to_owned(),
                TraceVerdict::Continue => "continue".to_owned(),
                TraceVerdict::Jump(chain) => format!("jump {chain}"),
                TraceVerdict::Goto(chain) => format!("goto {chain}"),
            },
        }
    }

    /// Returns the outcome in one word, and in one line.
    fn summary(
        &mut self,
        journey: &Journey,
        explanation: Option<&ExplainView>,
    ) -> (&'static str, String) {
        let of = |role| if role == PacketRole::Answer { "the answer" } else { "the packet" };
        let endpoint = journey.request.as_ref().map(|it| self.peer(it.last.destination));
        let endpoint = endpoint.map_or_else(String::new, |it| it.to_string());
        let answerer = journey.answer.as_ref().map(|it| self.peer(it.first.source));
        let answerer = answerer.map_or_else(String::new, |it| it.to_string());
        match journey.outcome() {
            TraceOutcome::Nothing => ("nothing", "no packet has come".to_owned()),
            TraceOutcome::Answered => ("answered", format!("by {answerer}")),
            TraceOutcome::Refused => ("refused", format!("by {answerer}: nothing listens there")),
            TraceOutcome::Unreachable => {
                let from = journey.answer.as_ref().map(|it| it.first.source.ip());
                let name = from.map(|ip| self.names.client(ip).to_string()).unwrap_or_default();
                let from = from.map(|ip| ip.to_string()).unwrap_or_default();
                let on_the_way = format!("an error of ICMP came from {from}{name}");
                ("refused", format!("{on_the_way} on the way to {endpoint}"))
            }
            TraceOutcome::Unanswered => (
                "unanswered",
                format!(
                    "the packet went to {endpoint}, and no answer came back to this node within \
                     5s: the endpoint does not answer, or answers another way"
                ),
            ),
            TraceOutcome::Gone(role, hook) => (
                "gone",
                format!(
                    "{} after hook {}: {}, or something took it that nf_tables does not show, such \
                     as legacy iptables",
                    of(role),
                    hook_name(hook),
                    suspects(hook)
                ),
            ),
            TraceOutcome::Returned(hook) => (
                "refused",
                format!("by this node after hook {}: {}", hook_name(hook), suspects(hook)),
            ),
            TraceOutcome::Stopped(role, at) => {
                let rule = self.rule(&at, &TraceVerdict::Drop);
                let word = if rule.verdict == "reject" { "refused" } else { "dropped" };
                // Of a packet that fits no connection, `explain` knows nothing.
                let reason = explanation.filter(|it| it.verdict != FORWARD).map(|it| &*it.reason);
                let by = match at.table == NAME {
                    true => format!("by kube-ipvs: {}", reason.unwrap_or("see its last rule")),
                    false => format!("by {}: {}", rule.owner(), rule.place()),
                };
                (word, if role == PacketRole::Answer { format!("{} {by}", of(role)) } else { by })
            }
        }
    }
}

impl RuleView {
    fn is_ours(&self) -> bool {
        self.table.ends_with(&format!(" {NAME}"))
    }

    fn owner(&self) -> &'static str {
        match self.handle {
            Some(_) => "another program's rule",
            None => "another program's policy",
        }
    }

    fn place(&self) -> String {
        let handle = self.handle.map(|handle| format!(" handle {handle}"));
        format!("{} {}{}", self.table, self.chain, handle.unwrap_or_default())
    }
}

impl fmt::Display for RuleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} {}: {text}", self.table, self.chain),
            None if self.is_ours() => write!(f, "{}: {}", self.place(), self.verdict),
            None => write!(f, "{}: {}: {}", self.owner(), self.place(), self.verdict),
        }
    }
}

impl fmt::Display for TranslationView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = [("from", &self.source), ("to", &self.destination)];
        let ends =
            ends.into_iter().filter_map(|(word, end)| Some(format!("{word} {}", end.as_ref()?)));
        f.write_str(&ends.collect::<Vec<_>>().join(" "))?;
        if self.by == "rule" { Ok(()) } else { write!(f, ", by {}", self.by) }
    }
}

impl fmt::Display for HopView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packet, hook, arrives, leaves, process, rule, translated } = self;
        write!(f, "{packet:<8} {hook:<12} ")?;
        if let Some(rule) = rule {
            return rule.fmt(f);
        }
        if let Some(translated) = translated {
            return translated.fmt(f);
        }
        match (arrives, leaves, process.as_deref()) {
            (Some(link), ..) => write!(f, "arrives by {link}"),
            (_, Some(link), _) => write!(f, "leaves by {link}"),
            (.., Some("sent")) => f.write_str("sent by a process of this node"),
            _ => f.write_str("delivered to a process of this node"),
        }
    }
}

impl fmt::Display for TraceView {
    /// Formats the text output, with the outcome last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.client, self.destination)?;
        match &self.service {
            Some(service) => writeln!(f, " of {service}")?,
            None => writeln!(f)?,
        }
        for hop in &self.hops {
            writeln!(f, "  {hop}")?;
        }
        writeln!(f, "{}: {}", self.outcome, self.summary)
    }
}
