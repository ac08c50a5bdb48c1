//! `plan`: what would change in this kernel, and nothing changed.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube_ipvs_core::desired::overlaps;
use kube_ipvs_core::engine::{Edge, Engine};
use kube_ipvs_core::model::{Event, Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running};

use super::plan_view::PlanView;
use super::{TextFormat, WOULD_CHANGE, objects, output, running};
use crate::agent;
use crate::config::{SharedFlags, SourceConfig};
use crate::kernel::Kernel;
use crate::source::kubernetes::{self, ApiAccess, Timeouts};
use crate::source::network;

/// How long the API server may take to list everything.
const LONGEST_LIST: Duration = Duration::from_secs(60);

pub(super) fn run(
    shared: &SharedFlags,
    exit_code: bool,
    form: TextFormat,
) -> anyhow::Result<ExitCode> {
    let (settings, mut events) = load(shared)?;
    // Those of this machine, as it is this machine's kernel that is read.
    events.extend(network::list()?);
    let mut engine = Engine::new(&settings, None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    let operations = plan(&mut engine, &mut Kernel::open()?.carrying(&settings.carry)?)?;
    let context = engine.desired().context();
    for overlap in overlaps(context) {
        output::report(overlap.warning())?;
    }
    let ips: Vec<_> = context.node_port_ips.iter().map(ToString::to_string).collect();
    output::report(format_args!("node ports are served at {}", ips.join(", ")))?;
    let view = PlanView::new(&operations, &engine);
    match form {
        TextFormat::Json => writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&view)?)?,
        TextFormat::Text => {
            let mut out = io::stdout().lock();
            for operation in &view.operations {
                output::line(&mut out, operation)?;
            }
            output::report(&view.summary)?;
        }
    }
    let would_change = exit_code && !operations.is_empty();
    Ok(if would_change { ExitCode::from(WOULD_CHANGE) } else { ExitCode::SUCCESS })
}

/// The settings and objects: from `--manifests`, or else from where the agent takes them.
fn load(shared: &SharedFlags) -> anyhow::Result<(Settings, Vec<Event>)> {
    if shared.manifests.is_some() {
        return objects::load(shared, "plan");
    }
    let config = running::config(shared, true)?;
    let (access, settings) = match config.source {
        SourceConfig::Kubernetes { kubeconfig, master } => {
            (ApiAccess { kubeconfig, master }, config.settings)
        }
        SourceConfig::Manifests(directory) => {
            let shared = SharedFlags { manifests: Some(directory), ..shared.clone() };
            let (_, events) = objects::load(&shared, "plan")?;
            return Ok((config.settings, events));
        }
    };
    // Failures to list, and objects that cannot be used.
    agent::log::start(config.log_format, "warn")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let list = kubernetes::list(&access, &settings, Timeouts::default(), LONGEST_LIST);
    let events = runtime.block_on(list)?;
    // A name lookup may still be under way.
    runtime.shutdown_background();
    Ok((settings, events))
}

/// The ordered operations from what the kernel holds to the desired state. The kernel is only
/// read.
fn plan(engine: &mut Engine, kernel: &mut Kernel) -> anyhow::Result<Vec<Operation>> {
    let mut dry = DryRun { kernel, now: Instant::now(), operations: Vec::new() };
    engine.settle(&mut dry).map_err(anyhow::Error::msg)?;
    Ok(dry.operations)
}

/// A kernel that is read, and to which nothing is written.
struct DryRun<'a> {
    kernel: &'a mut Kernel,
    now: Instant,
    operations: Vec<Operation>,
}

impl Edge for DryRun<'_> {
    type Error = String;

    fn observe(&mut self) -> Result<Observed, String> {
        self.kernel.observe().map_err(|error| error.to_string())
    }

    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, String> {
        self.kernel.ipvs.observe_server(address).map_err(|error| error.to_string())
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, String> {
        self.kernel.listening().map_err(|error| error.to_string())
    }

    /// A plan does not wait until connections have ended.
    fn connections(&mut self, _: &CountTargets) -> Result<Vec<Running>, String> {
        Err("a dry run counts no connections".to_owned())
    }

    /// As if all had been done, so that the next part of the plan follows.
    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        self.operations.extend_from_slice(operations);
        operations.iter().map(|_| Ok(())).collect()
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}
