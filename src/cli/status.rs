//! `status`: what the running agent holds.

use std::process::ExitCode;

use super::{TextFormat, output, running};
use crate::client::AgentClient;
use crate::config::{ConfigError, SharedFlags};

pub(super) fn run(shared: &SharedFlags, form: TextFormat) -> anyhow::Result<ExitCode> {
    output::print(form, &client(shared)?.status()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The agent that runs with this configuration, or else here.
pub(super) fn client(shared: &SharedFlags) -> anyhow::Result<AgentClient> {
    let config = running::config(shared, false)?;
    let address = config.metrics_address.ok_or_else(|| ConfigError::Value {
        option: "metricsBindAddress".to_owned(),
        reason: "the agent is asked there, so it cannot be off".to_owned(),
    })?;
    Ok(AgentClient::new(address))
}
