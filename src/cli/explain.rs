//! `explain`: where a new connection would go, and why.

use std::process::ExitCode;

use super::{TextFormat, objects, output, status};
use crate::agent::answer::ExplainView;
use crate::config::SharedFlags;
use crate::explain::{Source, explain};
use crate::model::VirtualAddress;

/// Answers from the manifests' desired state alone, or asks the running agent.
pub(super) fn run(
    shared: &SharedFlags,
    destination: VirtualAddress,
    from: Source,
    form: TextFormat,
) -> anyhow::Result<ExitCode> {
    let answer = if shared.manifests.is_some() {
        let programs = objects::programs(shared, "explain")?;
        ExplainView::from(&explain(&programs, destination, from))
    } else {
        status::client(shared)?.explain(destination, from)?
    };
    output::print(form, &answer)?;
    Ok(ExitCode::SUCCESS)
}
