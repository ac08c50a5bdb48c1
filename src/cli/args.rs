//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kube_ipvs_core::question::{ClientName, DestinationName};

use super::{ConnectionsFlags, ServiceFlags, TopFlags, TraceFlags};
use crate::config::{SharedFlags, path, truth};
use crate::duration::parse as duration;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "kube-ipvs",
    about = "A kube-proxy replacement that programs Linux IPVS",
    after_help = "Without a command, kube-proxy's flags start the agent: a manifest of kube-proxy \
                  needs only a new image and command name. `kube-ipvs --help` lists these flags, \
                  which every command takes.\n\n\
                  Exit status: 0 done, 1 the work failed, 2 the command line or a file is wrong.",
    args_override_self = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version
    #[arg(
        short = 'V', long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = asks_for_version, value_name = "true|false|raw", global = true
    )]
    version: Option<bool>,
    /// What every command takes.
    #[command(flatten)]
    pub shared: SharedFlags,
    /// What kube-proxy does by a flag.
    #[command(flatten)]
    pub run: RunFlags,
}

impl Cli {
    /// Reads a command line, whose first word is the program's name.
    ///
    /// # Errors
    ///
    /// If the command line is invalid, or asks for help or the version.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, EarlyExit> {
        let (line, warnings) = respell(line);
        let command = command();
        let named = line.iter().skip(1).find_map(|word| command.find_subcommand(word));
        let named = named.map(|it| format!("{} ", it.get_name())).unwrap_or_default();
        let cli = command.try_get_matches_from(line).and_then(|it| Self::from_arg_matches(&it));
        let mut cli = cli.map_err(|error| EarlyExit::new(&error, &named))?;
        if cli.version == Some(true) {
            return Err(EarlyExit::Answer(format!("{VERSION}\n")));
        }
        cli.shared.warnings = warnings;
        cli.shared.overrides_kubeconfig = !matches!(cli.command, None | Some(Command::Run(_)));
        cli.unset_empty_paths();
        Ok(cli)
    }

    /// Treats an empty path as none, as kube-proxy does.
    fn unset_empty_paths(&mut self) {
        let shared = &mut self.shared;
        let run = match &mut self.command {
            Some(Command::Run(flags)) => flags,
            _ => &mut self.run,
        };
        for path in [&mut shared.config, &mut shared.manifests, &mut run.write_config_to] {
            path.take_if(|path| path.as_os_str().is_empty());
        }
    }
}

/// Returns the command line, in which each command shows the flags that matter to it.
pub(super) fn command() -> clap::Command {
    let mut command = Cli::command();
    // The flags that every command takes are among those of each command then.
    command.build();
    command.mut_subcommands(|command| {
        let shown: &[&str] = match command.get_name() {
            "run" => return command,
            "status" | "top" | "connections" | "trace" => &["config", "metrics-bind-address"],
            "completions" | "version" => &[],
            _ => &["config", "manifests", "node_name", "master", "kubeconfig"],
        };
        let is_hidden =
            |flag: &clap::Arg| flag.is_global_set() && !shown.contains(&flag.get_id().as_str());
        command.mut_args(|flag| if is_hidden(&flag) { flag.hide(true) } else { flag })
    })
}

pub(super) const VERSION: &str = concat!("kube-ipvs ", env!("CARGO_PKG_VERSION"));

/// Parses the value of `--version` as kube-proxy does.
fn asks_for_version(text: &str) -> Result<bool, String> {
    let other = || "use true, false or raw".to_owned();
    if text == "raw" { Ok(true) } else { truth(text).map_err(|_| other()) }
}

/// Writes `-` for `_` in the names of flags, as kube-proxy does (`WordSepNormalizeFunc`), with a warning
/// for each.
fn respell(line: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let (mut words, mut warnings, mut is_over) = (Vec::new(), Vec::new(), false);
    for word in line {
        is_over |= word == "--";
        let flag = word.to_str().filter(|_| !is_over).and_then(|word| word.strip_prefix("--"));
        let flag = flag.map(|flag| flag.split_at(flag.find('=').unwrap_or(flag.len())));
        match flag {
            Some((name, value)) if name.contains('_') => {
                let right = name.replace('_', "-");
                warnings.push(format!("--{name}: taken for --{right}"));
                words.push(format!("--{right}{value}").into());
            }
            _ => words.push(word),
        }
    }
    (words, warnings)
}

/// A text that is printed instead of running a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EarlyExit {
    /// Help, or the version.
    Answer(String),
    /// An error in the command line.
    Wrong(String),
}

impl EarlyExit {
    /// Describes an error of the command `named`, which a space follows.
    fn new(error: &clap::Error, named: &str) -> Self {
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Self::Answer(text),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Self::Wrong(text),
            _ => Self::Wrong(one_line(&text, named)),
        }
    }
}

/// Returns the error and the tips of a message of many lines as one line.
fn one_line(text: &str, named: &str) -> String {
    let paragraph = text.lines().take_while(|line| !line.trim().is_empty());
    let what: Vec<_> = paragraph.map(|line| line.trim().trim_start_matches("error: ")).collect();
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    // No value begins with a dash.
    let tips = tips.filter(|tip| !tip.starts_with("to pass "));
    let tips: String = tips.map(|tip| format!("; {tip}")).collect();
    format!("kube-ipvs: {}{tips}; try 'kube-ipvs {named}--help'\n", what.join(" "))
}

/// What `run` does instead of running, as kube-proxy does.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Instead of running")]
pub struct RunFlags {
    /// Load modules and set kernel settings, then end; after it, CAP_NET_ADMIN is enough to run
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false"
    )]
    pub init_only: Option<bool>,
    /// Same as the command `cleanup`
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false"
    )]
    pub cleanup: Option<bool>,
    /// Write the configuration as a complete, commented file, then end; `-` is standard output
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub write_config_to: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent
    #[command(
        after_help = "SIGTERM or SIGINT end it; the kernel's state stays as it is. When its \
        configuration file changes, it validates the file and replaces itself. While another agent \
        runs in this network namespace, it waits for that to end.\n\nExamples:\n  \
        kube-ipvs run --config /var/lib/kube-proxy/config.conf\n  \
        kube-ipvs run --manifests ./objects --node-name n1\n  \
        kube-ipvs run --write-config-to -"
    )]
    Run(RunFlags),
    /// Print the desired state of manifests, without a kernel or a cluster
    #[command(after_help = "Example:\n  kube-ipvs render --manifests ./objects --node-name n1")]
    Render {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: RenderFormat,
    },
    /// Print what would change in this kernel; change nothing
    #[command(
        after_help = "+ adds, ~ changes, - removes. Objects come from --manifests, or else from \
        where the agent takes them: without flags of its own it takes those of the agent that runs in \
        this container.\n\nExamples:\n  \
        kubectl -n kube-system exec ds/kube-ipvs -- /kube-ipvs plan\n  \
        kube-ipvs plan --manifests ./objects --node-name n1 --exit-code"
    )]
    Plan {
        /// Exit with status 3 if anything would change
        #[arg(long)]
        exit_code: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Print where a new connection would go, and why
    #[command(after_help = "Asks the running agent, or computes the answer from --manifests. A \
        Service means its ClusterIPs; every port and address family that the question may mean is \
        explained, up to 64 ports.\n\n\
        Examples:\n  kube-ipvs explain 10.96.0.10:53/udp --from node\n  \
        kube-ipvs explain svc/kube-dns:dns -n kube-system --from pod/default/web-0\n  \
        kube-ipvs explain '[fd00::a]:443' --from 10.244.1.5 -o json")]
    Explain {
        /// Destination of the connection: svc/[NAMESPACE/]NAME[:PORT] (PORT is a name or number), or
        /// ADDR:PORT[/tcp|udp|sctp]
        #[arg(value_name = "DEST")]
        destination: DestinationName,
        /// Source of the connection: pod/NAME or pod/NAMESPACE/NAME of a pod that is an endpoint, an
        /// IP address, or `node` for a process in the node's own network
        #[arg(long, value_name = "SRC")]
        from: ClientName,
        /// Namespace of the names
        #[arg(short, long, default_value = "default")]
        namespace: String,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Print the state of the running agent
    #[command(after_help = "Examples:\n  kube-ipvs status\n  \
        kube-ipvs status kube-system/kube-dns -o wide\n  \
        kube-ipvs status kube-system -l k8s-app=kube-dns -o json")]
    Status {
        #[command(flatten)]
        services: ServiceFlags,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: StatusFormat,
    },
    /// Print the traffic of Services and their endpoints, again and again
    #[command(
        after_help = "A terminal is redrawn; other outputs get a table, or a line of JSON, for each \
        interval. Rates come from IPVS's counters, which are read only while this runs; of connections \
        that connection tracking carries (`carry`), IPVS counts the first packets alone.\n\n\
        Examples:\n  kube-ipvs top\n  kube-ipvs top shop -l tier=front --sort bytes\n  \
        kube-ipvs top shop/web --once -o json"
    )]
    Top(TopFlags),
    /// Print the connections of a Service through this node, each with its endpoint
    #[command(
        after_help = "CARRIER is ipvs, or else tracking or flowtable: IPVS has chosen the endpoint of \
        such a connection and does not see its other packets. An untracked connection is known to \
        IPVS alone: it was carried and has ended by a reset, or connection tracking was flushed. \
        LEFT is the time until the connection is forgotten unless a packet comes; of a connection \
        that a flowtable carries, the kernel gives neither state nor time.\n\n\
        Examples:\n  kube-ipvs connections web -n shop\n  \
        kube-ipvs connections shop/web --limit 100000 -o json"
    )]
    Connections(ConnectionsFlags),
    /// Print what becomes of a client's next connection through this node, hop by hop
    #[command(
        after_help = "Waits for the client's next connection; with --from node it opens the \
        connection itself. The kernel reports the rules of every program that the first packet and \
        its answer meet, by way of a table `kube-ipvs-trace` that is deleted in the end. Rules of \
        legacy iptables and eBPF programs are not reported. Exit status 1 if no packet came, and 0 \
        whatever became of one: `-o json` has its `outcome`.\n\n\
        Examples:\n  kube-ipvs trace --from pod/cart-0 --to svc/web:http -n shop\n  \
        kube-ipvs trace --from node --to 10.96.0.10:53/udp\n  \
        kube-ipvs trace --from 198.51.100.9 --to 203.0.113.7:80 --wait 2m -o json"
    )]
    Trace(TraceFlags),
    /// Check this node: kernel, modules, settings, other proxies' leftovers, firewalls
    #[command(
        after_help = "Without flags of its own it takes those of the agent that runs in this \
        container, as it does with `kubectl exec`. Exit status 1 if a check fails.\n\n\
        Example:\n  kubectl -n kube-system exec ds/kube-ipvs -- /kube-ipvs doctor"
    )]
    Doctor {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
    /// Remove exactly what this program put into the kernel
    #[command(
        after_help = "Virtual servers that kube-proxy has taken over again are left to it.\n\n\
        Examples:\n  kube-ipvs cleanup                # ours, when going back to kube-proxy\n  \
        kube-ipvs cleanup --drain 5m     # ours, when going back to its iptables or nftables mode\n  \
        kube-ipvs cleanup --kube-proxy   # kube-proxy's, once it is stopped\n  \
        kube-ipvs cleanup --dry-run      # print what cleanup would remove"
    )]
    Cleanup(CleanupFlags),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version {
        /// Output format; JSON adds commit, date and toolchain of the build
        #[arg(short, long, value_enum, default_value_t)]
        output: TextFormat,
    },
}

/// What `cleanup` removes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
pub struct CleanupFlags {
    /// Instead, remove what kube-proxy has left: addresses, rules, sets and virtual servers that are
    /// not ours
    #[arg(long)]
    pub kube_proxy: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Stop taking new connections first, and wait until the established ones that would be cut
    /// have ended, but no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    #[arg(conflicts_with = "kube_proxy")]
    pub drain: Option<Duration>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextFormat,
}

/// Form of `render`'s output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum RenderFormat {
    /// The pools, as the lines that `ipvsadm -Sn` prints once they are programmed, sorted
    #[default]
    Ipvsadm,
    /// Our nf_tables tables, with where each front end leads, as `nft` text
    Nft,
    /// Device and routes as `ip` lines
    Route,
    /// All of it as one object
    Json,
}

/// Form of `status`'s output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum StatusFormat {
    /// Lines for people
    #[default]
    Text,
    /// A table of each pool's endpoints, with pod, node, zone, connections and state
    Wide,
    /// The object of `json` in YAML
    Yaml,
    /// One JSON object
    Json,
}

/// Form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum TextFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object
    Json,
}

#[cfg(test)]
mod tests;
