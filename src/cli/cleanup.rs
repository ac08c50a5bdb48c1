//! `cleanup`: removes exactly what this program put into the kernel, or what kube-proxy has left.

use std::io::{self, Write};
use std::process::ExitCode;

use super::FAILED;
use super::args::CleanupFlags;
use crate::kernel::{Kernel, kube_proxy};
use crate::plan::{self, Observed};

pub(super) fn run(flags: &CleanupFlags) -> anyhow::Result<ExitCode> {
    let succeeded = if flags.kube_proxy { remove_kube_proxys()? } else { remove_ours()? };
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn remove_ours() -> anyhow::Result<bool> {
    let mut kernel = Kernel::open()?;
    let observed = Observed { claims: kube_proxy::claims()?, ..kernel.observe()? };
    let is_removed = plan::is_removed(&observed);
    // Without our table nobody would know any more that it is ours.
    if let Some((address, why)) = observed.unread.iter().find(|(address, _)| is_removed(address)) {
        anyhow::bail!("nothing is removed: {}", plan::cannot_be_read(address, why));
    }
    let operations = plan::removal(&observed);
    let mut succeeded = true;
    let mut out = io::stdout().lock();
    for (operation, outcome) in operations.iter().zip(kernel.apply(&operations)) {
        match outcome {
            Ok(()) => writeln!(out, "{} {operation}", operation.effect())?,
            Err(failure) => {
                succeeded = false;
                writeln!(io::stderr(), "kube-ipvs: {failure}")?;
            }
        }
    }
    Ok(succeeded)
}

fn remove_kube_proxys() -> anyhow::Result<bool> {
    let removal = kube_proxy::remove(&mut Kernel::open()?)?;
    let mut out = io::stdout().lock();
    for line in &removal.done {
        writeln!(out, "{line}")?;
    }
    let mut err = io::stderr().lock();
    for failure in &removal.failures {
        writeln!(err, "kube-ipvs: {failure}")?;
    }
    for advice in &removal.by_hand {
        writeln!(err, "kube-ipvs: {advice}")?;
    }
    Ok(removal.failures.is_empty())
}
