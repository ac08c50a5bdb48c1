//! `version`.

use std::io::{self, Write};
use std::process::ExitCode;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{}", super::args::VERSION)?;
    Ok(ExitCode::SUCCESS)
}
