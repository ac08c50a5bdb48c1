//! `trace`: what becomes of the next connection of a client, hop by hop.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use kube_ipvs_core::explain::Source;
use kube_ipvs_core::model::{Family, VirtualAddress};
use kube_ipvs_core::question::{ClientName, ConnectionQuestion, DestinationName};

use super::trace_view::{TraceView, ViewContext};
use super::{TextFormat, describe, output, status};
use crate::agent::api::{ExplainView, NameView};
use crate::client::AgentClient;
use crate::config::SharedFlags;
use crate::duration::parse as duration;
use crate::kernel::nft::trace::{RulePlace, TracedFlow, Tracer};
use crate::kernel::route::Network;
use crate::trace::{Journey, OwnConnection, TraceOutcome};

/// How long an answer may take, or a packet on its way through the node.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// The connection that `trace` follows, and how it prints it.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct TraceFlags {
    /// Source of the connection: pod/NAME or pod/NAMESPACE/NAME of a pod that is an endpoint, an IP
    /// address, or `node` for a connection that this command opens itself
    #[arg(long, value_name = "SRC")]
    from: ClientName,
    /// Destination of the connection: svc/[NAMESPACE/]NAME[:PORT] (PORT is a name or number), or
    /// ADDR:PORT[/tcp|udp|sctp]
    #[arg(long, value_name = "DEST")]
    to: DestinationName,
    /// Namespace of the names
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How long it waits for the client's next connection
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    wait: Duration,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: TextFormat,
}

pub(super) fn run(shared: &SharedFlags, flags: &TraceFlags) -> anyhow::Result<ExitCode> {
    let question = ConnectionQuestion {
        destination: flags.to.clone(),
        from: flags.from.clone(),
        namespace: flags.namespace.clone(),
    };
    let known = Known::ask(shared, &question)?;
    let (to, from) = known.connection(&question)?;
    if matches!(from, Source::Address(ip) if Family::of(ip) != to.family()) {
        anyhow::bail!("{from} and {to} are of different address families");
    }
    let probe = (from == Source::Node).then(|| OwnConnection::open(to)).transpose();
    let probe = probe.context("cannot open a connection of this node")?;
    let mut tracer = Tracer::start(&TracedFlow {
        client: if let Source::Address(ip) = from { Some(ip) } else { None },
        port: probe.as_ref().and_then(OwnConnection::port),
        destination: to,
    })?;
    match &probe {
        Some(probe) => probe.send(),
        None => output::report(format_args!(
            "waits {:?} for the next connection from {from} to {to}: open it now",
            flags.wait
        ))?,
    }
    let journey = follow(&mut tracer, flags.wait)?;
    if journey.outcome() == TraceOutcome::Nothing {
        anyhow::bail!(
            "no connection from {from} to {to} has come to this node within {:?}; the client may \
             have another address here, or another way",
            flags.wait
        );
    }
    let links = Network::open()?.links()?.into_iter();
    let context = ViewContext {
        names: known.names(&journey)?,
        explanation: known.explanation.as_ref(),
        links: links.map(|link| (link.index, link.name.to_string())).collect(),
        rule: |at: &RulePlace| tracer.rule(at),
    };
    let view = TraceView::new(&journey, to, context);
    // Nothing is left by the time that the output is read.
    drop(tracer);
    output::print(flags.output, &view)?;
    Ok(ExitCode::SUCCESS)
}

/// Gathers what the kernel reports, until the connection is answered or ends, or the time is up.
fn follow(tracer: &mut Tracer, wait: Duration) -> anyhow::Result<Journey> {
    let mut journey = Journey::new(tracer.chains().clone());
    let mut deadline = Instant::now() + wait;
    let (mut has_begun, mut is_incomplete) = (false, false);
    while !journey.is_over() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        is_incomplete |= tracer.read(left, |event| journey.add(event));
        if !has_begun && journey.request.is_some() {
            has_begun = true;
            deadline = Instant::now() + ANSWER_PATIENCE;
        }
    }
    if is_incomplete {
        output::report("some reports of the kernel are lost, so hops may be missing")?;
    }
    Ok(journey)
}

/// What the agent knows of the connection.
#[derive(Default)]
struct Known {
    explanation: Option<ExplainView>,
    /// `None` if it does not answer.
    agent: Option<AgentClient>,
}

impl Known {
    /// Asks the agent. Without it, addresses can be traced.
    fn ask(shared: &SharedFlags, question: &ConnectionQuestion) -> anyhow::Result<Self> {
        let ask = || -> anyhow::Result<(Vec<ExplainView>, AgentClient)> {
            let agent = status::client(shared)?;
            Ok((agent.explain(question)?, agent))
        };
        match ask() {
            Ok((explained, agent)) => {
                if let [first, others @ ..] = &explained[..]
                    && !others.is_empty()
                {
                    let also: Vec<_> = others.iter().map(|it| &*it.destination).collect();
                    output::report(format_args!(
                        "traces a connection to {}; the names mean {}, too: give --to an address \
                         for these",
                        first.destination,
                        also.join(", ")
                    ))?;
                }
                Ok(Self { explanation: explained.into_iter().next(), agent: Some(agent) })
            }
            Err(error) if question.is_one() => {
                let why = describe(&error);
                output::report(format_args!("names and reasons are left out: {why}"))?;
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the names that belong to the addresses of a journey.
    fn names(&self, journey: &Journey) -> anyhow::Result<BTreeMap<IpAddr, NameView>> {
        let names = self.agent.map(|agent| agent.names(&journey.addresses())).transpose();
        names.map(Option::unwrap_or_default).or_else(|error| {
            output::report(format_args!("names are left out: {}", describe(&error.into())))?;
            Ok(BTreeMap::new())
        })
    }

    /// Returns the connection that is meant.
    fn connection(
        &self,
        question: &ConnectionQuestion,
    ) -> anyhow::Result<(VirtualAddress, Source)> {
        if let (DestinationName::Address(to), ClientName::Source(from)) =
            (&question.destination, &question.from)
        {
            return Ok((*to, *from));
        }
        let explained = self.explanation.as_ref().context("the agent explains no connection")?;
        let to = explained.destination.parse().map_err(anyhow::Error::msg)?;
        let from = explained.from.parse().ok().context("the agent names no client")?;
        Ok((to, from))
    }
}
