//! `cleanup`: removes exactly what this program put into the kernel, or what kube-proxy has left.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Protocol;
use kube_ipvs_core::plan::{self, Carrier, CountTargets, Observed, Operation};
use serde_json::{Value, json};

use super::args::CleanupFlags;
use super::{FAILED, TextFormat, output, plan_view};
use crate::agent;
use crate::kernel::Kernel;
use crate::kernel::nft::trace;
use crate::migrate::{self, Done, Removal};

/// Wait between two looks at the connections.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(flags: &CleanupFlags) -> anyhow::Result<ExitCode> {
    let mut report = CleanupReport { form: flags.output, removal: Removal::default() };
    let ended = match flags.kube_proxy {
        true => remove_kube_proxys(flags.dry_run, &mut report),
        false => remove_ours(flags, &mut report),
    };
    // What was removed before an error, too.
    if report.form == TextFormat::Json {
        writeln!(io::stdout(), "{}", output::pretty_json(&report.json())?)?;
    }
    ended?;
    let succeeded = report.removal.failures.is_empty();
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// What was removed, and what was not: as text at once, as JSON at the end.
struct CleanupReport {
    form: TextFormat,
    removal: Removal,
}

impl CleanupReport {
    fn done(&mut self, done: Done) -> io::Result<()> {
        if self.form == TextFormat::Text {
            output::line(io::stdout(), &done)?;
        }
        self.removal.done.push(done);
        Ok(())
    }

    fn failure(&mut self, failure: impl Display) -> io::Result<()> {
        if self.form == TextFormat::Text {
            output::report(&failure)?;
        }
        self.removal.failures.push(failure.to_string());
        Ok(())
    }

    /// Operations as of `plan`.
    fn json(&self) -> Value {
        let operation = |Done { effect, command }: &Done| json!({"effect": plan_view::effect(*effect), "command": command});
        let operations: Vec<_> = self.removal.done.iter().map(operation).collect();
        let Removal { failures, by_hand, .. } = &self.removal;
        json!({"operations": operations, "failures": failures, "byHand": by_hand})
    }
}

fn remove_ours(flags: &CleanupFlags, report: &mut CleanupReport) -> anyhow::Result<()> {
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
        let operations = [plan::release(&observed), plan::removal(&observed)].concat();
        return Ok(operations.iter().try_for_each(|it| report.done(it.into()))?);
    }
    // A front end that leads to a pool whose route has just gone would lose the connection.
    carry_out(&mut kernel, &plan::release(&observed), report)?;
    if let Some(period) = flags.drain {
        wait_for_connections(&mut kernel, &observed, period)?;
    }
    carry_out(&mut kernel, &plan::removal(&observed), report)?;
    for table in trace::delete_left()? {
        report.done(Done::removal(format_args!("nft delete table {table}")))?;
    }
    Ok(())
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

/// Carries out operations and reports each, or why it failed.
fn carry_out(
    kernel: &mut Kernel,
    operations: &[Operation],
    report: &mut CleanupReport,
) -> anyhow::Result<()> {
    for (operation, outcome) in operations.iter().zip(kernel.apply(operations)) {
        match outcome {
            Ok(()) => report.done(operation.into())?,
            Err(failure) => report.failure(failure)?,
        }
    }
    Ok(())
}

fn remove_kube_proxys(is_dry_run: bool, report: &mut CleanupReport) -> anyhow::Result<()> {
    let removal = migrate::remove(&mut Kernel::open()?, is_dry_run)?;
    removal.done.into_iter().try_for_each(|done| report.done(done))?;
    removal.failures.iter().try_for_each(|failure| report.failure(failure))?;
    report.removal.by_hand = removal.by_hand;
    if report.form == TextFormat::Text {
        report.removal.by_hand.iter().try_for_each(output::report)?;
    }
    Ok(())
}
