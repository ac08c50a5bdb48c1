//! `plan`: what would change in this kernel, and nothing changed.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kube_ipvs_core::desired::overlaps;
use kube_ipvs_core::engine::{Edge, Engine};
use kube_ipvs_core::model::{Event, Pool, Settings, VirtualAddress, one_line};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running, ServerOperation};

use super::plan_view::PlanView;
use super::{TextFormat, WOULD_CHANGE, objects, output, running};
use crate::agent;
use crate::config::{SharedFlags, SourceConfig};
use crate::kernel::Kernel;
use crate::source::kubernetes::{self, Timeouts};
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
    let (ejected, operations) = plan(&mut engine, &mut Kernel::open()?.configured(&settings)?)?;
    let context = engine.desired().context();
    for overlap in overlaps(context) {
        output::report(overlap.warning())?;
    }
    let ips: Vec<_> = context.node_port_ips.iter().map(ToString::to_string).collect();
    output::report(format_args!("node ports are served at {}", ips.join(", ")))?;
    for (server, backend) in ejected {
        output::report(format_args!(
            "{backend} of {server} has weight 0: the running agent has ejected it, or it was draining; \
             an agent that starts gives it its weight again"
        ))?;
    }
    let view = PlanView::new(&operations, &engine);
    match form {
        TextFormat::Json => writeln!(io::stdout(), "{}", output::pretty_json(&view)?)?,
        TextFormat::Text => {
            let mut out = anstream::stdout().lock();
            for operation in &view.operations {
                let line = operation.to_string();
                writeln!(out, "{}", output::coloured(&one_line(&line)))?;
            }
            output::report(&view.summary)?;
        }
    }
    let would_change = exit_code && !operations.is_empty();
    Ok(if would_change { ExitCode::from(WOULD_CHANGE) } else { ExitCode::SUCCESS })
}

/// A real server with its virtual server.
type RealServer = (VirtualAddress, SocketAddr);

/// The settings and objects: from `--manifests`, or else from where the agent takes them.
fn load(shared: &SharedFlags) -> anyhow::Result<(Settings, Vec<Event>)> {
    if shared.manifests.is_some() {
        return objects::load(shared, "plan");
    }
    let config = running::config(shared, true)?;
    let (access, settings) = match config.source {
        SourceConfig::Kubernetes(access) => (access, config.settings),
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
/// read. The running agent knows which real servers it has ejected, and the kernel shows their weight
/// 0 alone: in pools with ejection, such real servers are returned and not changed.
fn plan(
    engine: &mut Engine,
    kernel: &mut Kernel,
) -> anyhow::Result<(Vec<RealServer>, Vec<Operation>)> {
    let (now, idle) = (Instant::now(), BTreeSet::new());
    let mut dry = DryRun { kernel, now, idle, operations: Vec::new() };
    engine.settle(&mut dry).map_err(anyhow::Error::msg)?;
    let pools = engine.desired().services().flat_map(|(_, service)| &*service.pools);
    let ejecting = pools.filter(|pool| pool.eject_after().is_some());
    let ejecting: BTreeSet<_> = ejecting.map(|pool| pool.server.address).collect();
    let mut ejected = Vec::new();
    dry.operations.retain(|operation| {
        let Operation::Server(ServerOperation::SetReal(server, backend, _)) = operation else {
            return true;
        };
        let real_server = (*server, backend.socket());
        let is_ejected = ejecting.contains(server) && dry.idle.contains(&real_server);
        ejected.extend(is_ejected.then_some(real_server));
        !is_ejected
    });
    Ok((ejected, dry.operations))
}

/// A kernel that is read, and to which nothing is written.
struct DryRun<'a> {
    kernel: &'a mut Kernel,
    now: Instant,
    /// The real servers with weight 0.
    idle: BTreeSet<RealServer>,
    operations: Vec<Operation>,
}

impl Edge for DryRun<'_> {
    type Error = String;

    fn observe(&mut self) -> Result<Observed, String> {
        let observed = self.kernel.observe().map_err(|error| error.to_string())?;
        for Pool { server, backends, .. } in &observed.pools {
            let idle = backends.iter().filter(|backend| backend.is_draining());
            self.idle.extend(idle.map(|backend| (server.address, backend.socket())));
        }
        Ok(observed)
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
