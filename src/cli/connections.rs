//! `connections`: the connections of a Service through this node.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::{TextFormat, complete, output, status};
use crate::agent::api::{ConnectionsQuestion, ConnectionsView};
use crate::config::{SharedFlags, count};

/// What `connections` shows, and how.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct ConnectionsFlags {
    /// The Service
    #[arg(value_name = "[NAMESPACE/]SERVICE", value_parser = service, add = complete::services())]
    service: String,
    /// Namespace of a Service without one
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Most connections that are shown, up to 100000
    #[arg(long, value_name = "COUNT", value_parser = count::<usize>, default_value_t = 1000)]
    limit: usize,
    /// Form of the output; JSON has an object a line
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: TextFormat,
}

impl ConnectionsFlags {
    pub(super) fn question(&self) -> ConnectionsQuestion {
        let names = self.service.split_once('/').unwrap_or((&self.namespace, &self.service));
        let (namespace, name) = (names.0.to_owned(), names.1.to_owned());
        ConnectionsQuestion { namespace, name, limit: self.limit }
    }
}

fn service(text: &str) -> Result<String, String> {
    let words: Vec<_> = text.split('/').collect();
    match words.len() <= 2 && words.iter().all(|word| !word.is_empty()) {
        true => Ok(text.to_owned()),
        false => Err("give SERVICE or NAMESPACE/SERVICE".to_owned()),
    }
}

pub(super) fn run(shared: &SharedFlags, flags: &ConnectionsFlags) -> anyhow::Result<ExitCode> {
    let view = status::client(shared)?.connections(&flags.question())?;
    match flags.output {
        TextFormat::Text => output::print(TextFormat::Text, &view)?,
        TextFormat::Json => {
            let mut out = io::stdout().lock();
            for connection in &view.connections {
                writeln!(out, "{}", output::json(connection)?)?;
            }
        }
    }
    report(&view)?;
    Ok(ExitCode::SUCCESS)
}

/// Reports what is left out.
pub(super) fn report(
    ConnectionsView { connections, count, note }: &ConnectionsView,
) -> io::Result<()> {
    if let Some(note) = note {
        output::report(format_args!("{note}"))?;
    }
    let shown = connections.len();
    if shown < *count {
        output::report(format_args!(
            "{shown} of at least {count} connections are shown; --limit shows more"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_at_most_one_namespace() {
        for (text, is_valid) in
            [("web", true), ("shop/web", true), ("", false), ("shop/", false), ("a/b/c", false)]
        {
            assert_eq!(service(text).is_ok(), is_valid, "{text}");
        }
    }
}
