//! The agent's work without the agent: engine and kernel, one after the other.

use std::net::Ipv4Addr;
use std::time::Instant;

use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::{Ipvs, command};
use kube_ipvs_core::engine::{Edge, Engine, Work};
use kube_ipvs_core::model::{Backend, Event, Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running, ServerOperation};
use kube_ipvs_core::testing::{EmptyKernel, all_succeed};
use netlink_ipvs::ipvs::encode;
use netlink_ipvs::{Batch, KernelError, Socket, Subsystem};

use crate::Result;
use crate::cluster::frontend;

/// Bytes per send of a replay, as in the agent.
const CHUNK: usize = 64 << 10;

/// Returns an engine with these objects.
pub(crate) fn engine(events: impl IntoIterator<Item = Event>) -> Engine {
    let mut engine = Engine::new(&Settings::for_node("n1"), None);
    events.into_iter().for_each(|event| engine.handle_event(event));
    engine
}

/// A kernel without sockets and connections, and how many operations it has carried out.
struct Counted<'a> {
    kernel: &'a mut Kernel,
    operations: usize,
}

impl Edge for Counted<'_> {
    type Error = KernelError;

    fn observe(&mut self) -> std::result::Result<Observed, KernelError> {
        self.kernel.observe()
    }

    fn observe_pool(
        &mut self,
        address: &VirtualAddress,
    ) -> std::result::Result<Option<Pool>, KernelError> {
        self.kernel.ipvs.observe_server(address)
    }

    fn listening(&mut self) -> std::result::Result<Vec<VirtualAddress>, KernelError> {
        Ok(Vec::new())
    }

    fn connections(&mut self, _: &CountTargets) -> std::result::Result<Vec<Running>, KernelError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        self.operations += operations.len();
        self.kernel.apply(operations)
    }

    fn now(&mut self) -> Instant {
        Instant::now()
    }
}

/// Does all the work that there is. Returns the number of operations.
pub(crate) fn settle(engine: &mut Engine, kernel: &mut Kernel) -> Result<usize> {
    let mut counted = Counted { kernel, operations: 0 };
    engine.settle(&mut counted)?;
    Ok(counted.operations)
}

/// Reads virtual servers, as an audit does.
pub(crate) fn observe_pools(
    engine: &mut Engine,
    kernel: &mut Kernel,
    addresses: Vec<VirtualAddress>,
) -> Result<()> {
    let mut counted = Counted { kernel, operations: 0 };
    engine.carry_out(&Work::ObservePools(addresses), &mut counted)?;
    Ok(())
}

/// Does the work of IPVS on an empty kernel; all other work is skipped.
pub(crate) fn settle_ipvs(engine: &mut Engine, ipvs: &mut Ipvs) -> Result<()> {
    let mut kernel = EmptyKernel::new(Instant::now(), |operations: &[Operation]| {
        let mut outcomes = ipvs.apply(operations.iter().filter_map(Operation::as_server));
        outcomes.resize(operations.len(), Ok(()));
        outcomes
    });
    Ok(engine.settle(&mut kernel)?)
}

/// The IPVS operations that an empty kernel needs.
pub(crate) fn ipvs_operations(engine: &mut Engine) -> Result<Vec<ServerOperation>> {
    let mut found = Vec::new();
    let mut kernel = EmptyKernel::new(Instant::now(), |operations: &[Operation]| {
        found.extend(operations.iter().filter_map(Operation::as_server));
        all_succeed(operations)
    });
    engine.settle(&mut kernel)?;
    Ok(found)
}

/// Returns operations that add an unknown endpoint to each of these Services.
pub(crate) fn added_endpoints(services: impl IntoIterator<Item = u32>) -> Vec<ServerOperation> {
    let numbered = (0..).zip(services);
    let add = |(index, service)| {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 0).to_bits() + index);
        let backend = Backend { address: address.into(), port: 8080, weight: 1, local: false };
        ServerOperation::AddReal(frontend(service), backend, 0)
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
        let family = ipvs.socket.family();
        let mut batches: Vec<Batch> = Vec::new();
        for operation in operations {
            if batches.last().is_none_or(|batch| batch.size() >= bytes) {
                batches.push(Batch::default());
            }
            if let Some(batch) = batches.last_mut() {
                encode(batch, family, &command(operation));
            }
        }
        ipvs.socket.info()?;
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
