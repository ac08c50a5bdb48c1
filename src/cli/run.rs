//! `run`: the agent.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::{CleanupFlags, RunFlags, cleanup, output};
use crate::agent;
use crate::config::{self, Config, SharedFlags, resolve};

pub(super) fn run(shared: &SharedFlags, flags: &RunFlags) -> anyhow::Result<ExitCode> {
    if flags.cleanup == Some(true) {
        return cleanup::run(&CleanupFlags::default());
    }
    agent::log::select(config::log_format(shared));
    let config = resolve(shared)?;
    if let Some(path) = &flags.write_config_to {
        write_config(&config, path)?;
        return Ok(ExitCode::SUCCESS);
    }
    agent::log::start(config.log_format, &config.log_level)?;
    if flags.init_only == Some(true) {
        agent::prepare(&config)?;
    } else {
        agent::run(config, shared)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_config(config: &Config, path: &Path) -> anyhow::Result<()> {
    for warning in &config.warnings {
        output::report(warning)?;
    }
    let text = config::write(config);
    if path == Path::new("-") {
        io::stdout().write_all(text.as_bytes())?;
    } else {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
