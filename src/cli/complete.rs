//! Completions of command lines. A shell asks the program itself, so that the names of Services are those
//! that the agent of this node serves.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use clap::{Command, CommandFactory};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, complete};
use clap_complete::env::Shells;
use kube_ipvs_core::model::Scheduler;

use super::args;
use super::plugin::Plugin;
use crate::agent::api::{StatusFilter, StatusQuestion};
use crate::client::AgentClient;

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// The most names of Services that are offered.
const MOST: usize = 200;
/// The default of `metricsBindAddress`: a completion must not read a configuration.
const AGENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);

/// zsh loads `_kube-ipvs` of a directory in `fpath` when it needs completions for the first time: the file
/// is then the function that is to complete.
const AUTOLOADED: &[u8] =
    b"[[ $funcstack[1] != _kube-ipvs ]] || _clap_dynamic_completer_kube_ipvs \"$@\"\n";

/// Returns the command lines of the program and of the kubectl plugin, as manual pages have them: each
/// page of `help` would repeat another.
#[must_use]
pub fn commands() -> [Command; 2] {
    let program = args::command().mut_subcommand("help", |help| help.hide(true));
    [program, Plugin::command()]
}

/// Returns what a shell reads to complete command lines of the program: `bash`, `elvish`, `fish`,
/// `powershell` or `zsh`.
///
/// # Errors
///
/// If the shell is another.
pub fn completions(shell: &str) -> io::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let unknown = || io::Error::other(format!("there are no completions for {shell}"));
    let mut text = Vec::new();
    let name = "kube-ipvs";
    let shell = shells.completer(shell).ok_or_else(unknown)?;
    shell.write_registration(VARIABLE, name, name, name, &mut text)?;
    if shell.name() == "zsh" {
        text.extend_from_slice(AUTOLOADED);
    }
    Ok(text)
}

/// Returns what is offered for a flag that takes a text of which some mean something: a test holds that
/// these do.
fn words(flag: &str) -> Vec<&'static str> {
    match flag {
        "proxy-mode" => vec!["ipvs"],
        "detect-local-mode" => {
            vec!["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]
        }
        "ipvs-scheduler" => Scheduler::ALL.map(Scheduler::name).into(),
        "log_level" => vec!["error", "warn", "info", "debug", "trace"],
        _ => Vec::new(),
    }
}

/// Offers values for the flags of a command, and of those below it.
fn with_words(command: Command) -> Command {
    command.mut_subcommands(with_words).mut_args(|flag| {
        let words = words(flag.get_id().as_str());
        if words.is_empty() {
            return flag;
        }
        let candidates = move || words.iter().map(CompletionCandidate::new).collect();
        flag.add(ArgValueCandidates::new(candidates))
    })
}

/// Answers a shell that asks for completions, and ends.
pub(super) fn answer_shell() {
    CompleteEnv::with_factory(|| with_words(args::command())).var(VARIABLE).complete();
}

/// Prints the completions of a command line of the plugin in kubectl's form, which is Cobra's. kubectl
/// asks the program `kubectl_complete-ipvs` with the words after `ipvs`, of which the last is incomplete.
pub(super) fn answer_kubectl(line: Vec<OsString>) -> io::Result<()> {
    let last = line.len().saturating_sub(1);
    let mut out = io::stdout().lock();
    for candidate in complete(&mut Plugin::command(), line, last, None)? {
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        writeln!(out, "{}\t{help}", candidate.get_value().to_string_lossy())?;
    }
    // No names of files.
    writeln!(out, ":4")
}

/// Completes `NAMESPACE/NAME` of Services.
pub(super) fn services() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let names = served(&typed).into_iter();
        names.filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
    })
}

/// Returns the Services that the agent of this node serves, by what their names begin with.
fn served(typed: &str) -> Vec<String> {
    let (namespace, limit) = (typed.split_once('/').map(|(it, _)| it.to_owned()), Some(MOST));
    let question =
        StatusQuestion::from(StatusFilter { namespace, limit, ..StatusFilter::default() });
    let status = AgentClient::new(AGENT).status(&question);
    status.map_or_else(|_| Vec::new(), |it| it.services.into_iter().map(|it| it.service).collect())
}
