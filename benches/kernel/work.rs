//! The agent's work without the agent: engine and kernel, one after the other.

use std::net::Ipv4Addr;
use std::time::Instant;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::{Ipvs, command};
use kube_ipvs_core::engine::{Engine, Work};
use kube_ipvs_core::model::{Backend, Event, Settings};
use kube_ipvs_core::plan::{Operation, ServerOperation};
use netlink_ipvs::ipvs::encode;
use netlink_ipvs::{Batch, Socket, Subsystem};

use crate::Result;
use crate::cluster::frontend;
use crate::empty_kernel::each_plan;

/// Bytes per send of a replay, as in the agent.
const CHUNK: usize = 64 << 10;

/// Returns an engine with these objects.
pub(crate) fn engine(events: impl IntoIterator<Item = Event>) -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    engine
}

/// Does all pending work. Returns the number of operations.
pub(crate) fn settle(engine: &mut Engine, kernel: &mut Kernel) -> Result<usize> {
    let mut count = 0;
    while let Some(work) = engine.poll_work(Instant::now()) {
        match work {
            Work::Observe => {
                let failures = engine.handle_observed(kernel.observe()?, Instant::now());
                if let Some(failure) = failures.first() {
                    return Err(failure.error.message.clone().into());
                }
            }
            Work::ObservePools(addresses) => {
                let pools = kernel.observe_pools(&addresses)?;
                engine.handle_observed_pools(&addresses, pools);
            }
            Work::Listen => {}
            Work::Count(_) => engine.handle_connections(Vec::new(), Instant::now()),
            Work::Apply(plan) => {
                let outcomes = kernel.apply(plan.operations());
                if let Some(failure) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
                    return Err(failure.to_string().into());
                }
                count += outcomes.len();
                engine.handle_outcomes(&plan, outcomes, Instant::now());
            }
        }
    }
    Ok(count)
}

/// Carries out only the IPVS operations on an empty kernel; all others count as done.
pub(crate) fn settle_ipvs(engine: &mut Engine, ipvs: &mut Ipvs) -> Result<()> {
    each_plan(engine, Instant::now(), |operations| {
        let operations = operations.iter().filter_map(Operation::as_server);
        match ipvs.apply(operations).into_iter().find_map(std::result::Result::err) {
            Some(failure) => Err(failure.to_string().into()),
            None => Ok(()),
        }
    })
}

/// Returns the IPVS operations for an empty kernel.
pub(crate) fn ipvs_operations(engine: &mut Engine) -> Result<Vec<ServerOperation>> {
    let mut ipvs_operations = Vec::new();
    each_plan(engine, Instant::now(), |operations| {
        ipvs_operations.extend(operations.iter().filter_map(Operation::as_server));
        Result::Ok(())
    })?;
    Ok(ipvs_operations)
}

/// Returns operations that add an unknown endpoint to each of these Services.
pub(crate) fn added_endpoints(services: impl IntoIterator<Item = u32>) -> Vec<ServerOperation> {
    let numbered = (0..).zip(services);
    let add = |(index, service)| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 0).to_bits() + index);
        let backend = Backend { address: address.into(), port: 8080, weight: 1, local: false };
        ServerOperation::AddReal(frontend(service), backend)
    };
    numbered.map(add).collect()
}

/// Encoded IPVS messages.
pub(crate) struct Replay {
    socket: Socket,
    batches: Vec<Batch>,
}

impl Replay {
    /// In sends as large as the agent's.
    pub(crate) fn batched(operations: &[ServerOperation]) -> Result<Self> {
        Self::in_sends_of(operations, CHUNK)
    }

    /// One operation per send.
    pub(crate) fn single(operations: &[ServerOperation]) -> Result<Self> {
        Self::in_sends_of(operations, 1)
    }

    fn in_sends_of(operations: &[ServerOperation], bytes: usize) -> Result<Self> {
        let mut ipvs = Ipvs::open()?;
        let family = ipvs.family();
        let mut batches: Vec<Batch> = Vec::new();
        for operation in operations {
            if batches.last().is_none_or(|batch| batch.size() >= bytes) {
                batches.push(Batch::default());
            }
            if let Some(batch) = batches.last_mut() {
                encode(batch, family, &command(operation));
            }
        }
        ipvs.info()?;
        Ok(Self { socket: Socket::open(Subsystem::Generic)?, batches })
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        (0..self.batches.len()).try_for_each(|index| self.send(index))
    }

    /// Makes one send, and waits for the last answer.
    pub(crate) fn send(&mut self, index: usize) -> Result<()> {
        let batch = self.batches.get_mut(index).ok_or("no such send")?;
        let last = batch.len() - 1;
        for answer in self.socket.transact(batch, last)? {
            answer.ok_or("an answer was lost")?.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
