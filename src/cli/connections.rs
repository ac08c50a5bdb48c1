//! `connections`: the connections of a Service through this node.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::{ServiceName, TextFormat, complete, output, status};
use crate::agent::api::{ConnectionsQuestion, ConnectionsView, StatusFilter};
use crate::config::{SharedFlags, count};

/// What `connections` shows, and how.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct ConnectionsFlags {
    /// The Service: NAME, NAMESPACE/NAME or svc/NAME
    #[arg(value_name = "SERVICE", value_parser = str::parse::<ServiceName>)]
    #[arg(add = complete::services())]
    service: ServiceName,
    /// Namespace of a Service without one
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Show at most this many connections, up to 100000
    #[arg(long, value_name = "COUNT", value_parser = count::<usize>, default_value_t = 1000)]
    limit: usize,
    /// Output format; JSON has one object per line
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: TextFormat,
}

impl ConnectionsFlags {
    pub(super) fn question(&self) -> ConnectionsQuestion {
        let StatusFilter { namespace, name, .. } = self.service.filter(Some(&self.namespace));
        ConnectionsQuestion {
            namespace: namespace.unwrap_or_default(),
            name: name.unwrap_or_default(),
            limit: self.limit,
        }
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
