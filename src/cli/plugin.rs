//! `kubectl ipvs`: questions to the agents of a cluster, with the rights of the user.
//!
//! This program is the plugin if its name is `kubectl-ipvs`. It asks what the agents serve over HTTP.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use futures_util::StreamExt;
use futures_util::stream;
use kube_ipvs_core::model::one_line;
use kube_ipvs_core::question::{ClientName, ConnectionQuestion, DestinationName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::VERSION;
use super::diff::{Comparison, DiffView};
use super::top::{self, Reading};
use super::{
    ConnectionsFlags, FAILED, ServiceFlags, TextFormat, TopFlags, WOULD_CHANGE, WRONG, end, output,
};
use crate::agent::api::{ConnectionsView, ExplainView, StatusFilter, StatusView};
use crate::agent::http::{connections_path, explain_path, status_path};
use crate::doctor::Report;
use crate::source::kubernetes::{AgentPod, AgentPods, RemoteError, connect_user};

/// The name of this program as the plugin.
pub(super) const NAME: &str = "kubectl-ipvs";
/// The name by which kubectl asks it for completions.
pub(super) const COMPLETER: &str = "kubectl_complete-ipvs";
/// Agents that are asked at the same time.
const AT_ONCE: usize = 16;
/// The wait before `diff` looks whether a difference lasts: longer than a change takes.
const LOOKS_AGAIN: Duration = Duration::from_secs(3);

/// The command line of the plugin.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-ipvs",
    bin_name = "kubectl ipvs",
    about = "Asks the kube-ipvs agents of a cluster",
    after_help = "The agents are asked by port-forward, with the rights of the kubeconfig: it needs \
        to list pods, and to get and create pods/portforward, in the agents' namespace.\n\n\
        Exit status: 0 done, 1 an agent or the API server did not answer, 2 the command line is \
        wrong, 3 `diff` found differences.",
    version = VERSION,
    disable_help_subcommand = true
)]
pub(super) struct Plugin {
    #[command(subcommand)]
    command: PluginCommand,
    #[command(flatten)]
    access: AgentAccess,
}

/// The way to the agents.
#[derive(Debug, Args)]
#[command(next_help_heading = "Agents")]
struct AgentAccess {
    /// Only the agent of this node
    #[arg(long, value_name = "NAME", global = true)]
    node: Option<String>,
    /// A kubeconfig, for KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// Namespace of the agents' pods
    #[arg(long, value_name = "NAME", global = true, default_value = "kube-system")]
    agent_namespace: String,
    /// Labels of the agents' pods
    #[arg(
        long,
        value_name = "LABELS",
        global = true,
        default_value = "app.kubernetes.io/name=kube-ipvs"
    )]
    agent_selector: String,
    /// Port of the agents' metricsBindAddress
    #[arg(long, value_name = "PORT", global = true, default_value_t = 10249)]
    metrics_port: u16,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Print the state of the agents
    Status {
        #[command(flatten)]
        services: ServiceFlags,
        /// Output format; JSON has one line per node
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Print the traffic of Services and their endpoints on each node, again and again
    Top(TopFlags),
    /// Print the connections of a Service through each node, each with its endpoint
    Connections(ConnectionsFlags),
    /// Print where a new connection would go on each node, and why
    Explain {
        /// As in `kube-ipvs explain`
        #[arg(value_name = "DEST")]
        destination: DestinationName,
        /// As in `kube-ipvs explain`
        #[arg(long, value_name = "SRC")]
        from: ClientName,
        /// Namespace of the names
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Output format; JSON has one line per node
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Print the checks of each node that warn or fail
    Doctor {
        /// Output format; JSON has one line per node
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Print the differences between nodes, and nodes with failed operations
    #[command(
        after_help = "Compared are front ends, refused front ends, and the endpoints of pools that \
        are the same on every node: those of traffic policy Cluster without topology hints. What \
        differs is read twice, so that a change under way is left out."
    )]
    Diff {
        #[command(flatten)]
        services: ServiceFlags,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
}

/// An answer, as JSON has it.
#[derive(Serialize)]
struct NodeAnswer<'a, T> {
    node: &'a str,
    answer: &'a T,
}

/// Returns the answer of a node as it is printed.
fn text_of<T: Display + Serialize + DeserializeOwned>(
    node: &str,
    answer: &T,
    form: TextFormat,
) -> serde_json::Result<String> {
    Ok(match form {
        TextFormat::Text => {
            let answer = output::shown(answer)?.to_string();
            format!("==> {}\n{}\n\n", one_line(node), answer.trim_end())
        }
        TextFormat::Json => output::json(&NodeAnswer { node, answer })? + "\n",
    })
}

/// Does what the command line of the plugin says.
pub(super) fn main(line: Vec<OsString>) -> ExitCode {
    let plugin = match Plugin::try_parse_from(line) {
        Ok(plugin) => plugin,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(WRONG) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    end(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(plugin))))
}

async fn run(Plugin { command, access }: Plugin) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::connect(access).await?;
    match command {
        PluginCommand::Status { services, output } => {
            let path = status_path(&services.filter().into());
            cluster.print(output, &path, |status: StatusView| status).await
        }
        PluginCommand::Top(flags) => cluster.top(&flags).await,
        PluginCommand::Connections(flags) => {
            let path = connections_path(&flags.question());
            cluster.print(flags.output, &path, |view: ConnectionsView| view).await
        }
        PluginCommand::Explain { destination, from, namespace, output } => {
            let question = ConnectionQuestion { destination, from, namespace };
            let path = explain_path(&question);
            match question.is_one() {
                true => cluster.print(output, &path, |answer: ExplainView| answer).await,
                false => cluster.print(output, &path, Explanations).await,
            }
        }
        PluginCommand::Doctor { output } => {
            // The checks come with every status: here with that of no Service.
            let path = status_path(&StatusFilter::of("", None).into());
            let checks = |status: StatusView| Report { checks: status.checks };
            cluster.print(output, &path, checks).await
        }
        PluginCommand::Diff { services, output } => {
            cluster.diff(output, &status_path(&services.filter().into())).await
        }
    }
}

/// The answers to a question with names.
#[derive(Serialize, serde::Deserialize)]
struct Explanations(Vec<ExplainView>);

impl Display for Explanations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|answer| answer.fmt(f))
    }
}

struct Cluster {
    pods: AgentPods,
    agents: Vec<AgentPod>,
}

impl Cluster {
    async fn connect(access: AgentAccess) -> anyhow::Result<Self> {
        let AgentAccess {
            node,
            kubeconfig,
            context,
            agent_namespace,
            agent_selector,
            metrics_port,
        } = access;
        let client = connect_user(kubeconfig.as_deref(), context.as_deref()).await?;
        let pods = AgentPods::new(client, &agent_namespace, agent_selector, metrics_port);
        let agents = pods.list(node.as_deref()).await?;
        if agents.is_empty() {
            let place = node.map_or_else(String::new, |node| format!(" on node {node}"));
            anyhow::bail!(
                "no agent runs{place} in namespace {agent_namespace}; --agent-namespace and \
                 --agent-selector say where they run"
            );
        }
        Ok(Self { pods, agents })
    }

    /// Asks every agent, and passes each answer to `take` in the order of the nodes. Returns whether
    /// all have answered.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        mut take: impl FnMut(&AgentPod, T) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let ask = |agent| async move { (agent, self.pods.get(agent, path).await) };
        let mut answers = stream::iter(&self.agents).map(ask).buffered(AT_ONCE);
        let mut is_complete = true;
        while let Some((agent, answer)) = answers.next().await {
            let answer: Result<T, RemoteError> = answer;
            match answer {
                Ok(answer) => take(agent, answer)?,
                Err(error) => {
                    is_complete = false;
                    let AgentPod { node, pod } = agent;
                    output::report(format_args!("node {node}, pod {pod}: {error}"))?;
                }
            }
        }
        Ok(is_complete)
    }

    /// Prints what `show` makes of the answer of each agent.
    async fn print<T: DeserializeOwned, V: Display + Serialize + DeserializeOwned>(
        &self,
        form: TextFormat,
        path: &str,
        show: impl Fn(T) -> V,
    ) -> anyhow::Result<ExitCode> {
        let mut out = io::stdout();
        let is_complete = self.ask(path, |agent, answer| {
            out.write_all(text_of(&agent.node, &show(answer), form)?.as_bytes())?;
            Ok(())
        });
        Ok(if is_complete.await? { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    async fn top(&self, flags: &TopFlags) -> anyhow::Result<ExitCode> {
        let path = status_path(&flags.question());
        let (mut before, _) = self.readings(&path).await?;
        loop {
            tokio::time::sleep(flags.interval).await;
            let (now, is_complete) = self.readings(&path).await?;
            let mut text = String::new();
            for (node, now) in &now {
                // An agent that has not answered before has no rates yet.
                if let Some(before) = before.get(node) {
                    text += &text_of(node, &now.since(before, flags), flags.output)?;
                }
            }
            match flags.output {
                TextFormat::Text => top::draw(flags, text.trim_end())?,
                TextFormat::Json => io::stdout().write_all(text.as_bytes())?,
            }
            if flags.once {
                return Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(FAILED) });
            }
            before = now;
        }
    }

    /// Reads the counters on each node. Returns whether all agents have answered.
    async fn readings(&self, path: &str) -> anyhow::Result<(BTreeMap<String, Reading>, bool)> {
        let mut readings = BTreeMap::new();
        let is_complete = self.ask(path, |agent, status| {
            match Reading::new(status) {
                Ok(reading) => drop(readings.insert(agent.node.clone(), reading)),
                Err(error) => output::report(format_args!("node {}: {error}", agent.node))?,
            }
            Ok(())
        });
        let is_complete = is_complete.await?;
        Ok((readings, is_complete))
    }

    async fn diff(&self, form: TextFormat, path: &str) -> anyhow::Result<ExitCode> {
        let (mut view, mut is_complete) = self.compare(path).await?;
        if !view.differences.is_empty() {
            tokio::time::sleep(LOOKS_AGAIN).await;
            let (again, is_complete_again) = self.compare(path).await?;
            (view, is_complete) = (again.lasting(&view), is_complete_again);
        }
        output::print(form, &view)?;
        Ok(match (is_complete, view.is_empty()) {
            (false, _) => ExitCode::from(FAILED),
            (true, true) => ExitCode::SUCCESS,
            (true, false) => ExitCode::from(WOULD_CHANGE),
        })
    }

    async fn compare(&self, path: &str) -> anyhow::Result<(DiffView, bool)> {
        let mut comparison = Comparison::default();
        let add = |_: &AgentPod, status| {
            comparison.add(status);
            Ok(())
        };
        let is_complete = self.ask(path, add).await?;
        Ok((comparison.view(), is_complete))
    }
}
