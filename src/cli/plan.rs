//! `plan`: what would change in this kernel, and nothing changed.

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use kube_ipvs_core::desired::overlaps;
use kube_ipvs_core::engine::{Engine, RepeatedError, Work};
use kube_ipvs_core::model::Event;
use kube_ipvs_core::plan::Operation;

use super::{WOULD_CHANGE, objects, output};
use crate::config::SharedFlags;
use crate::kernel::Kernel;
use crate::source::network;

pub(super) fn run(shared: &SharedFlags, exit_code: bool) -> anyhow::Result<ExitCode> {
    let (settings, mut events) = objects::load(shared, "plan")?;
    // Those of this machine, as it is this machine's kernel that is read.
    events.extend(network::list()?);
    let mut engine = Engine::new(&settings, None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    let operations = plan(&mut engine, &mut Kernel::open()?.carrying(&settings.carry)?)?;
    let around = engine.desired().context();
    for overlap in overlaps(around) {
        output::tell(overlap.warning())?;
    }
    let ips: Vec<_> = around.node_port_ips.iter().map(ToString::to_string).collect();
    output::tell(format_args!("node ports are served at {}", ips.join(", ")))?;
    let mut out = io::stdout().lock();
    for operation in &operations {
        output::line(&mut out, format_args!("{} {operation}", operation.effect()))?;
    }
    let would_change = exit_code && !operations.is_empty();
    Ok(if would_change { ExitCode::from(WOULD_CHANGE) } else { ExitCode::SUCCESS })
}

/// The ordered operations from what the kernel holds to the desired state. The kernel is only
/// read.
fn plan(engine: &mut Engine, kernel: &mut Kernel) -> anyhow::Result<Vec<Operation>> {
    let now = Instant::now();
    let mut operations = Vec::new();
    while let Some(work) = engine.poll_work(now) {
        match work {
            Work::Listen => engine.handle_event(Event::Listening(kernel.listening()?)),
            Work::Observe => {
                let failures = engine.handle_observed(kernel.observe()?, now);
                if let Some(RepeatedError { error, .. }) = failures.first() {
                    anyhow::bail!("{}", error.message);
                }
            }
            Work::ObservePools(addresses) => {
                let pools = kernel.observe_pools(&addresses)?;
                engine.handle_observed_pools(&addresses, pools);
            }
            // Nobody waits here until connections have ended.
            Work::Count(_) => {}
            Work::Apply(plan) => {
                operations.extend_from_slice(plan.operations());
                // As if it had been done, so that the next part of the plan follows.
                let done = plan.operations().iter().map(|_| Ok(())).collect();
                engine.handle_outcomes(&plan, done, now);
            }
        }
    }
    Ok(operations)
}
