//! The JSON and text of `trace`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::{NAME, VirtualAddress};
use serde::{Deserialize, Serialize};

use crate::agent::api::{ExplainView, NameView, PeerView};
use crate::kernel::nft::trace::{RulePlace, RuleText, TraceVerdict};
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

/// What a view needs beside the journey.
pub(super) struct ViewContext<'a, F> {
    pub(super) names: BTreeMap<IpAddr, NameView>,
    pub(super) explanation: Option<&'a ExplainView>,
    /// By index.
    pub(super) links: BTreeMap<u32, String>,
    /// Reads what a rule says.
    pub(super) rule: F,
}

impl TraceView {
    /// Describes a connection of which a packet has come.
    pub(super) fn new(
        journey: &Journey,
        to: VirtualAddress,
        mut context: ViewContext<'_, impl FnMut(&RulePlace) -> RuleText>,
    ) -> Self {
        let mut hops = Vec::new();
        for (role, packet) in [("request", &journey.request), ("answer", &journey.answer)] {
            let packet = packet.iter().flat_map(|it| &it.hops);
            hops.extend(packet.map(|hop| context.hop(role, hop)));
        }
        let client = journey.request.as_ref().map(|it| it.first.source);
        let client = client.unwrap_or_else(|| SocketAddr::new(to.family().unspecified(), 0));
        let (outcome, summary) = context.summary(journey);
        Self {
            client: context.peer(client),
            destination: to.to_string(),
            service: context.explanation.and_then(|it| it.service.clone()),
            hops,
            outcome: outcome.to_owned(),
            summary,
        }
    }
}

impl<F: FnMut(&RulePlace) -> RuleText> ViewContext<'_, F> {
    fn peer(&self, at: SocketAddr) -> PeerView {
        PeerView { address: at, name: self.name(at.ip()) }
    }

    fn name(&self, ip: IpAddr) -> NameView {
        self.names.get(&ip).cloned().unwrap_or_default()
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
    fn summary(&mut self, journey: &Journey) -> (&'static str, String) {
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
                let name = from.map(|ip| self.name(ip).to_string()).unwrap_or_default();
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
                let reason =
                    self.explanation.filter(|it| it.verdict != FORWARD).map(|it| &*it.reason);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(at: &str, pod: &str) -> PeerView {
        let name = NameView { pod: Some(pod.to_owned()), node: Some("n2".to_owned()) };
        PeerView { address: at.parse().expect("an address"), name }
    }

    fn view() -> TraceView {
        let hop = |packet: &str, hook: &str| HopView {
            packet: packet.to_owned(),
            hook: hook.to_owned(),
            ..HopView::default()
        };
        let rule = |table: &str, text: Option<&str>, handle| RuleView {
            table: table.to_owned(),
            chain: "forward".to_owned(),
            handle,
            text: text.map(str::to_owned),
            verdict: "drop".to_owned(),
        };
        let translated = TranslationView {
            source: None,
            destination: Some(peer("10.244.2.13:8080", "shop/web\u{1b}[2J")),
            by: "IPVS".to_owned(),
        };
        let ours = rule("ip kube-ipvs", Some("ct direction original accept"), Some(4));
        TraceView {
            client: peer("10.244.1.12:40000", "shop/cart-0"),
            destination: "10.96.0.20:80/tcp".to_owned(),
            service: Some("shop/web:http".to_owned()),
            hops: vec![
                HopView { arrives: Some("cni0".to_owned()), ..hop("request", "prerouting") },
                HopView { translated: Some(translated), ..hop("request", "output") },
                HopView { leaves: Some("eth0".to_owned()), ..hop("request", "postrouting") },
                HopView { rule: Some(ours), ..hop("answer", "forward") },
                HopView { rule: Some(rule("ip f", None, Some(9))), ..hop("answer", "forward") },
                HopView { rule: Some(rule("ip f", None, None)), ..hop("answer", "forward") },
            ],
            outcome: "dropped".to_owned(),
            summary: "the answer".to_owned(),
        }
    }

    #[test]
    fn each_hop_is_a_line() {
        insta::assert_snapshot!(view().to_string(), @r"
        10.244.1.12:40000 (shop/cart-0 on n2) to 10.96.0.20:80/tcp of shop/web:http
          request  prerouting   arrives by cni0
          request  output       to 10.244.2.13:8080 (shop/web\u{1b}[2J on n2), by IPVS
          request  postrouting  leaves by eth0
          answer   forward      ip kube-ipvs forward: ct direction original accept
          answer   forward      another program's rule: ip f forward handle 9: drop
          answer   forward      another program's policy: ip f forward: drop
        dropped: the answer
        ");
    }

    #[test]
    fn json_has_only_what_a_hop_is_about() {
        let json = serde_json::to_value(view()).expect("JSON");
        let expected = serde_json::json!({
            "packet": "request", "hook": "output",
            "translated": {
                "destination": {
                    "address": "10.244.2.13:8080", "pod": "shop/web\u{1b}[2J", "node": "n2",
                },
                "by": "IPVS",
            },
        });
        assert_eq!(json["hops"][1], expected);
        assert_eq!(serde_json::from_value::<TraceView>(json).expect("a trace"), view());
    }
}
