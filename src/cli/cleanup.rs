//! `cleanup`: removes exactly what this program put into the kernel, or what kube-proxy has left.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Protocol;
use kube_ipvs_core::plan::{self, Carrier, CountTargets, Observed, Operation};

use super::args::CleanupFlags;
use super::{FAILED, output};
use crate::agent;
use crate::kernel::Kernel;
use crate::kernel::nft::trace;
use crate::migrate;

/// Wait between two looks at the connections.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(flags: &CleanupFlags) -> anyhow::Result<ExitCode> {
    let succeeded = match flags.kube_proxy {
        true => remove_kube_proxys(flags.dry_run)?,
        false => remove_ours(flags)?,
    };
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn remove_ours(flags: &CleanupFlags) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(agent) = runtime.block_on(agent::running()) {
        let warning = "will put back what is removed; stop it first, then clean up again";
        output::report(format_args!("an agent runs here ({agent}) and {warning}"))?;
    }
    let mut kernel = Kernel::open()?;
    let observed = Observed { claims: migrate::claims()?, ..kernel.observe()? };
    let is_removed = plan::is_removed(&observed);
    // Only the agent's table shows that such a virtual server is the agent's.
    if let Some((address, why)) = observed.unread.iter().find(|(address, _)| is_removed(address)) {
        anyhow::bail!("nothing is removed: {}", plan::cannot_be_read(address, why));
    }
    if flags.dry_run {
        let mut out = io::stdout().lock();
        for operation in [plan::release(&observed), plan::removal(&observed)].iter().flatten() {
            output::line(&mut out, format_args!("{} {operation}", operation.effect()))?;
        }
        return Ok(true);
    }
    // A front end that leads to a pool whose route has just gone would lose the connection.
    let succeeded = carry_out(&mut kernel, &plan::release(&observed))?;
    if let Some(period) = flags.drain {
        wait_for_connections(&mut kernel, &observed, period)?;
    }
    let succeeded = carry_out(&mut kernel, &plan::removal(&observed))? && succeeded;
    for table in trace::delete_left()? {
        output::line(io::stdout(), format_args!("- nft delete table {table}"))?;
    }
    Ok(succeeded)
}

/// Waits until no connection is left that IPVS carries through a virtual server that is going to
/// be removed, or for that long.
fn wait_for_connections(
    kernel: &mut Kernel,
    observed: &Observed,
    period: Duration,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + period;
    let servers = observed.pools.iter().map(|pool| pool.server.address);
    let servers = servers.filter(|address| address.protocol != Protocol::Udp);
    let targets = CountTargets {
        frontends: servers.filter(plan::is_removed(observed)).collect(),
        ..CountTargets::default()
    };
    while kernel.conntrack.count(&targets)?.iter().any(|it| it.carrier == Carrier::Ipvs)
        && Instant::now() < deadline
    {
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Carries out operations and prints each, or why it failed.
fn carry_out(kernel: &mut Kernel, operations: &[Operation]) -> anyhow::Result<bool> {
    let mut succeeded = true;
    let mut out = io::stdout().lock();
    for (operation, outcome) in operations.iter().zip(kernel.apply(operations)) {
        match outcome {
            Ok(()) => output::line(&mut out, format_args!("{} {operation}", operation.effect()))?,
            Err(failure) => {
                succeeded = false;
                output::report(failure)?;
            }
        }
    }
    Ok(succeeded)
}

fn remove_kube_proxys(is_dry_run: bool) -> anyhow::Result<bool> {
    let removal = migrate::remove(&mut Kernel::open()?, is_dry_run)?;
    let mut out = io::stdout().lock();
    for line in &removal.done {
        output::line(&mut out, line)?;
    }
    removal.failures.iter().try_for_each(output::report)?;
    removal.by_hand.iter().try_for_each(output::report)?;
    Ok(removal.failures.is_empty())
}
