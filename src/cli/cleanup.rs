//! `cleanup`: removes exactly what this program put into the kernel.

use std::io::{self, Write};
use std::process::ExitCode;

use super::FAILED;
use crate::kernel::Kernel;
use crate::plan;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let mut kernel = Kernel::open()?;
    let operations = plan::removal(&kernel.observe()?);
    let mut failed = false;
    let mut out = io::stdout().lock();
    for (operation, outcome) in operations.iter().zip(kernel.apply(&operations)) {
        match outcome {
            Ok(()) => writeln!(out, "{} {operation}", operation.effect())?,
            Err(failure) => {
                failed = true;
                writeln!(io::stderr(), "kube-ipvs: {failure}")?;
            }
        }
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}
