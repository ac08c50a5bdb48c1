//! The commands, one file each, and their dispatch.

mod args;
mod cleanup;
mod complete;
mod connections;
mod diff;
mod doctor;
mod explain;
mod objects;
mod output;
mod plan;
mod plan_view;
mod plugin;
mod render;
mod run;
mod running;
mod services;
mod status;
mod top;
mod top_view;
mod trace;
mod trace_view;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use kube_ipvs_core::model::with_causes;
use kube_ipvs_core::question::ConnectionQuestion;

use crate::agent::log;
use crate::build::Build;
use crate::config::{ConfigError, LogFormat};
use crate::source::manifests::ManifestError;

pub use args::{
    CleanupFlags, Cli, Command, EarlyExit, RenderFormat, RunFlags, StatusFormat, TextFormat,
};
pub use complete::{commands, completions};
pub use connections::ConnectionsFlags;
pub use services::{ServiceFlags, ServiceName};
pub use top_view::TopFlags;
pub use trace::TraceFlags;

/// The start of a message about the command line.
const PROGRAM: &str = "kube-ipvs: ";
/// The work failed.
const FAILED: u8 = 1;
/// The command line or a file is wrong.
const WRONG: u8 = 2;
/// `plan --exit-code`: something would change.
const WOULD_CHANGE: u8 = 3;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<_> = env::args_os().collect();
    match name_of(&line) {
        Some(plugin::NAME) => return plugin::main(line),
        Some(plugin::COMPLETER) => {
            return end(complete::answer_kubectl(line)
                .map(|()| ExitCode::SUCCESS)
                .map_err(Into::into));
        }
        _ => complete::answer_shell(),
    }
    let cli = match Cli::read(line.clone()) {
        Ok(cli) => cli,
        Err(EarlyExit::Answer(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(EarlyExit::Wrong(text)) => {
            if asks_for_json(&line) {
                log::select(LogFormat::Json);
                let _ = log::report_end(text.trim_start_matches(PROGRAM).trim_end());
            } else {
                let _ = io::stderr().write_all(text.as_bytes());
            }
            return ExitCode::from(WRONG);
        }
    };
    end(dispatch(cli))
}

/// Returns the name by which the program was called.
fn name_of(line: &[OsString]) -> Option<&str> {
    Path::new(line.first()?).file_name()?.to_str()
}

fn end(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        // The reader of the output has closed it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let config = error.downcast_ref::<ConfigError>();
            let lines = match config {
                Some(errors) => errors.each().iter().map(ToString::to_string).collect(),
                None => vec![describe(&error)],
            };
            for line in lines {
                let _ = log::report_end(&line);
            }
            let is_input = config.is_some() || error.is::<ManifestError>();
            ExitCode::from(if is_input { WRONG } else { FAILED })
        }
    }
}

/// Returns whether a command line that is invalid asks for a log in JSON.
fn asks_for_json(line: &[OsString]) -> bool {
    let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    let flags = ["--log-format", "--logging-format"];
    let pairs = words
        .windows(2)
        .any(|pair| matches!(pair, [flag, form] if flags.contains(&&**flag) && form == "json"));
    pairs || words.iter().any(|word| flags.iter().any(|flag| **word == format!("{flag}=json")))
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { command, shared, run: flags, .. } = cli;
    match command.unwrap_or(Command::Run(flags)) {
        Command::Run(flags) => run::run(&shared, &flags),
        Command::Render { output } => render::run(&shared, output),
        Command::Plan { exit_code, output } => plan::run(&shared, exit_code, output),
        Command::Explain { destination, from, namespace, output } => {
            explain::run(&shared, &ConnectionQuestion { destination, from, namespace }, output)
        }
        Command::Status { services, output } => status::run(&shared, services.filter(), output),
        Command::Connections(flags) => connections::run(&shared, &flags),
        Command::Top(flags) => top::run(&shared, &flags),
        Command::Trace(flags) => trace::run(&shared, &flags),
        Command::Doctor { output } => doctor::run(&shared, output),
        Command::Cleanup(flags) => cleanup::run(&flags),
        Command::Completions { shell } => {
            io::stdout().write_all(&completions(&shell.to_string())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version { output } => {
            output::print(output, &Build::this()).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn describe(error: &anyhow::Error) -> String {
    with_causes(error.as_ref())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn causes_are_printed_once() {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let told = ManifestError::Read { path: PathBuf::from("a"), source: not_found() };
        assert_eq!(describe(&told.into()), "cannot read a: entity not found");
        let untold = anyhow::Error::from(not_found()).context("cannot start");
        assert_eq!(describe(&untold), "cannot start: entity not found");
    }
}
