//! `doctor`: checks of this node.

use std::io::{self, Write};
use std::process::ExitCode;

use super::FAILED;
use crate::config::{SharedFlags, resolve_settings};
use crate::kernel::doctor::{self, Subject, Verdict};

pub(super) fn run(shared: &SharedFlags) -> anyhow::Result<ExitCode> {
    let (settings, _) = resolve_settings(shared)?;
    let report = doctor::run(&Subject {
        schedulers: vec![settings.scheduler],
        service_ranges: settings.service_cidrs,
        api_servers: Vec::new(),
    });
    write!(io::stdout(), "{report}")?;
    let fails = report.checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
