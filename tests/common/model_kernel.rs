//! A kernel of plain maps that answers like the real one: duplicates, missing objects and overlaps
//! are errors, and nf_tables transactions are atomic.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kube_ipvs_core::engine::{self, DesiredState, Edge};
use kube_ipvs_core::model::{
    Backend, Backends, Element, Pool, Route, VirtualAddress, VirtualServer,
};
use kube_ipvs_core::plan::{
    Carrier, CountTargets, Failure, FailureKind, FilterOperation, FlowOperation, ForeignClaims,
    Observed, Operation, Outcome, RouteOperation, Running, ServerOperation,
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    pub server: VirtualServer,
    pub reals: BTreeMap<(IpAddr, u16), u32>,
}

/// The state of a kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KernelState {
    pub tables: bool,
    pub elements: BTreeSet<Element>,
    pub device: bool,
    pub routes: BTreeMap<IpNet, Route>,
    pub servers: BTreeMap<VirtualAddress, Server>,
    /// The leftovers of an earlier version.
    pub earlier: Option<Vec<Element>>,
}

/// A forced failure of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: FailureKind,
    /// Whether the operation took effect anyway.
    pub applied: bool,
}

#[derive(Clone, Debug)]
pub struct ModelKernel {
    pub state: KernelState,
    /// The faults of the next operations, in order; later operations have none.
    pub faults: VecDeque<Option<Fault>>,
    /// Added elements that overlap existing ones. Some kernels do not reject them, but silently
    /// merge ranges.
    pub collisions: Vec<Element>,
    /// The number of reads of these virtual servers that still fail.
    pub unreadable: BTreeMap<VirtualAddress, usize>,
    /// Connections of real servers; others have none.
    pub connections: BTreeMap<(IpAddr, u16), u64>,
    /// UDP flows in connection tracking: the client's destination, and the endpoint.
    pub flows: BTreeSet<(VirtualAddress, SocketAddr)>,
    pub claims: ForeignClaims,
    pub listening: Vec<VirtualAddress>,
    /// The time now.
    pub now: Instant,
    /// The processor time of reading a virtual server, and what that has taken so far.
    pub reading: Duration,
    pub spent: Duration,
}

impl Default for ModelKernel {
    fn default() -> Self {
        Self {
            state: KernelState::default(),
            faults: VecDeque::new(),
            collisions: Vec::new(),
            unreadable: BTreeMap::new(),
            connections: BTreeMap::new(),
            flows: BTreeSet::new(),
            claims: ForeignClaims::default(),
            listening: Vec::new(),
            now: Instant::now(),
            reading: Duration::from_micros(70),
            spent: Duration::ZERO,
        }
    }
}

impl KernelState {
    /// Returns the desired state of a kernel.
    pub fn desired(desired: &DesiredState) -> Self {
        let routes = desired.services().flat_map(|(_, program)| &*program.routes);
        let pools = desired.services().flat_map(|(_, program)| program.serving_pools());
        Self {
            tables: true,
            elements: engine::elements(desired).into_iter().collect(),
            device: true,
            routes: routes.map(|route| (route.prefix, *route)).collect(),
            servers: pools.map(|pool| (pool.server.address, server(pool))).collect(),
            earlier: None,
        }
    }

    /// Returns the same state without some virtual servers.
    pub fn without(mut self, servers: &BTreeMap<VirtualAddress, Server>) -> Self {
        self.servers.retain(|address, _| !servers.contains_key(address));
        self
    }

    pub fn add_pool(&mut self, pool: &Pool) {
        self.servers.insert(pool.server.address, server(pool));
    }
}

fn server(pool: &Pool) -> Server {
    let real = |backend: &Backend| ((backend.address, backend.port), backend.weight);
    Server { server: pool.server, reals: pool.backends.iter().map(real).collect() }
}

impl Edge for ModelKernel {
    type Error = &'static str;

    fn observe(&mut self) -> Result<Observed, &'static str> {
        let (mut pools, mut unread) = (Vec::new(), BTreeMap::new());
        for address in self.state.servers.keys().copied().collect::<Vec<_>>() {
            match self.read(&address) {
                Ok(pool) => pools.extend(pool),
                Err(why) => drop(unread.insert(address, why.to_owned())),
            }
        }
        let KernelState { tables, elements, device, routes, servers: _, earlier } = &self.state;
        Ok(Observed {
            tables: *tables,
            elements: elements.iter().copied().collect(),
            device: *device,
            routes: routes.values().copied().collect(),
            pools,
            unread,
            earlier: earlier.clone(),
            claims: self.claims.clone(),
        })
    }

    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, &'static str> {
        self.now += self.reading;
        self.spent += self.reading;
        self.read(address)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, &'static str> {
        Ok(self.listening.clone())
    }

    /// Returns the connections of the targets to their virtual servers, and their flows.
    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, &'static str> {
        let is_counted = |frontend: &VirtualAddress, backend: SocketAddr| {
            targets.backends.contains(&(frontend.protocol, backend))
                || targets.frontends.contains(frontend)
        };
        let servers = self.state.servers.iter();
        let reals =
            servers.flat_map(|(address, it)| it.reals.keys().map(move |it| (*address, *it)));
        let running = reals
            .filter_map(|(frontend, real)| {
                let backend = SocketAddr::from(real);
                let count = *self.connections.get(&real).filter(|count| **count > 0)?;
                let carrier = Carrier::Ipvs;
                let running = Running { frontend, backend, carrier, count };
                is_counted(&frontend, backend).then_some(running)
            })
            .chain(
                self.flows.iter().filter(|(frontend, backend)| is_counted(frontend, *backend)).map(
                    |(frontend, backend)| Running {
                        frontend: *frontend,
                        backend: *backend,
                        carrier: Carrier::Tracking,
                        count: 1,
                    },
                ),
            )
            .collect();
        Ok(running)
    }

    /// Carries out operations in order; consecutive ones of a table form a group.
    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        runs(operations).flat_map(|run| self.apply_run(run)).collect()
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn processor_time(&mut self) -> Duration {
        self.spent
    }
}

impl ModelKernel {
    /// Reads the virtual server at an address, if any.
    fn read(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, &'static str> {
        if let Some(left) = self.unreadable.get_mut(address).filter(|left| **left > 0) {
            *left -= 1;
            return Err("ENOMEM");
        }
        Ok(self.state.servers.get(address).map(pool))
    }

    fn apply_run(&mut self, run: &[Operation]) -> Vec<Outcome> {
        if matches!(run, [Operation::Filter(_), ..]) {
            self.transact(run)
        } else {
            run.iter().map(|operation| self.apply_one(operation)).collect()
        }
    }

    fn change(&mut self, operation: &Operation) -> Outcome {
        if let Operation::Flow(FlowOperation { frontend, backend, carrier }) = operation {
            self.flows.retain(|(to, endpoint)| {
                to != frontend
                    || backend.is_some_and(|backend| backend != *endpoint)
                    || *carrier == Some(Carrier::Ipvs)
            });
        }
        self.state.change(operation)
    }

    fn apply_one(&mut self, operation: &Operation) -> Outcome {
        match self.faults.pop_front().flatten() {
            None => self.change(operation),
            Some(fault) => {
                if fault.applied {
                    let _ = self.change(operation);
                }
                failure(fault.kind)
            }
        }
    }

    /// Atomic.
    fn transact(&mut self, run: &[Operation]) -> Vec<Outcome> {
        let mut after = self.state.clone();
        let faults: Vec<_> = run.iter().map(|_| self.faults.pop_front().flatten()).collect();
        let mut outcomes = Vec::new();
        for operation in run {
            if let Operation::Filter(FilterOperation::Add(element)) = operation {
                let collides = |it: &&Element| *it != element && collide(it, element);
                self.collisions.extend(neighbours(&after.elements, element).find(collides));
            }
            outcomes.push(after.change(operation));
        }
        let fault = faults.into_iter().flatten().next();
        if outcomes.iter().all(Result::is_ok) {
            match fault {
                None => {
                    self.state = after;
                    return outcomes;
                }
                Some(Fault { kind, applied }) => {
                    if applied {
                        self.state = after;
                    }
                    return run.iter().map(|_| failure(kind)).collect();
                }
            }
        }
        // The kernel names the invalid ones and carries out none.
        let aborted = |outcome: Outcome| outcome.and_then(|()| failure(FailureKind::Refused));
        outcomes.into_iter().map(aborted).collect()
    }
}

/// Groups the operations that go to the kernel together.
pub fn runs(operations: &[Operation]) -> impl Iterator<Item = &[Operation]> {
    operations.chunk_by(|one, next| mem::discriminant(one) == mem::discriminant(next))
}

fn pool(server: &Server) -> Pool {
    let backend = |(&(address, port), &weight): (&(IpAddr, u16), &u32)| Backend {
        address,
        port,
        weight,
        local: false,
    };
    Pool {
        backends: server.reals.iter().map(backend).collect::<Backends>(),
        ..server.server.into()
    }
}

fn failure(kind: FailureKind) -> Outcome {
    Err(Failure { kind, message: format!("{kind:?}") })
}

/// EEXIST, ESRCH, ENOENT: the kernel's state is not as expected.
fn expect(as_expected: bool) -> Outcome {
    if as_expected { Ok(()) } else { failure(FailureKind::Drift) }
}

impl KernelState {
    fn change(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Filter(operation) => self.change_filter(*operation),
            Operation::Server(operation) => self.change_server(*operation),
            Operation::Route(operation) => self.change_route(*operation),
            // Connection tracking is not modelled here.
            Operation::Flow(_) => Ok(()),
            Operation::DeleteEarlier => expect(self.earlier.take().is_some()),
        }
    }

    fn change_filter(&mut self, operation: FilterOperation) -> Outcome {
        match operation {
            FilterOperation::CreateTables => self.tables = true,
            FilterOperation::DeleteTables => {
                expect(mem::take(&mut self.tables))?;
                self.elements.clear();
            }
            FilterOperation::Add(element) => {
                let is_taken = neighbours(&self.elements, &element).any(|it| collide(it, &element));
                expect(self.tables && !is_taken)?;
                self.elements.insert(element);
            }
            FilterOperation::Delete(element) => expect(self.elements.remove(&element))?,
        }
        Ok(())
    }

    fn change_server(&mut self, operation: ServerOperation) -> Outcome {
        use std::collections::btree_map::Entry;
        let real = |backend: Backend| (backend.address, backend.port);
        let missing = || Failure { kind: FailureKind::Drift, message: "ESRCH".to_owned() };
        match operation {
            ServerOperation::Add(server) => match self.servers.entry(server.address) {
                Entry::Vacant(entry) => {
                    entry.insert(Server { server, reals: BTreeMap::new() });
                    Ok(())
                }
                Entry::Occupied(_) => failure(FailureKind::Drift),
            },
            ServerOperation::Set(server) => {
                self.servers.get_mut(&server.address).ok_or_else(missing)?.server = server;
                Ok(())
            }
            ServerOperation::Delete(address) => expect(self.servers.remove(&address).is_some()),
            // The real servers have the limit, and it is read as that of their virtual server.
            ServerOperation::AddReal(address, backend, limit) => {
                let server = self.servers.get_mut(&address).ok_or_else(missing)?;
                expect(!server.reals.contains_key(&real(backend)))?;
                server.server.max_connections = limit;
                server.reals.insert(real(backend), backend.weight);
                Ok(())
            }
            ServerOperation::SetReal(address, backend, limit) => {
                let server = self.servers.get_mut(&address).ok_or_else(missing)?;
                server.server.max_connections = limit;
                *server.reals.get_mut(&real(backend)).ok_or_else(missing)? = backend.weight;
                Ok(())
            }
            ServerOperation::DeleteReal(address, backend) => {
                let server = self.servers.get_mut(&address).ok_or_else(missing)?;
                expect(server.reals.remove(&real(backend)).is_some())
            }
        }
    }

    fn change_route(&mut self, operation: RouteOperation) -> Outcome {
        match operation {
            RouteOperation::CreateDevice => expect(!mem::replace(&mut self.device, true)),
            RouteOperation::DeleteDevice => expect(mem::take(&mut self.device)),
            RouteOperation::Add(route) => {
                self.routes.insert(route.prefix, route);
                Ok(())
            }
            RouteOperation::Delete(route) => expect(self.routes.remove(&route.prefix).is_some()),
        }
    }
}

/// Returns the elements that may collide with an element: those of its kind with ranges, or those
/// of its map key.
fn neighbours<'a>(
    elements: &'a BTreeSet<Element>,
    element: &Element,
) -> Box<dyn Iterator<Item = &'a Element> + 'a> {
    let least = match *element {
        Element::Lead(map, address, ..) => {
            Element::Lead(map, address, Ipv4Addr::UNSPECIFIED.into(), 0)
        }
        Element::Range(..)
        | Element::Interfaces(..)
        | Element::Allowed(..)
        | Element::OnePacket(..)
        | Element::OnePacketPort(..) => {
            return Box::new(elements.iter());
        }
        other => return Box::new(elements.get(&other).into_iter()),
    };
    let key = least.lead().map(|(frontend, _)| frontend);
    let of_key = move |it: &&Element| it.lead().map(|(frontend, _)| frontend) == key;
    Box::new(elements.range(least..).take_while(of_key))
}

/// Returns whether two elements exclude each other: the same key of a map, or overlapping ranges.
fn collide(one: &Element, other: &Element) -> bool {
    let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    match (one, other) {
        (Element::Range(set, a), Element::Range(another, b)) => set == another && overlap(a, b),
        // Only one is ever needed at a time.
        (Element::Interfaces(set, _), Element::Interfaces(another, _)) => set == another,
        (Element::Allowed(address, a), Element::Allowed(another, b)) => {
            address == another && overlap(a, b)
        }
        (Element::Lead(map, address, ..), Element::Lead(other, another, ..)) => {
            (map, address) == (other, another)
        }
        (Element::OnePacket(map, address, _), Element::OnePacket(other, another, _)) => {
            (map, address) == (other, another)
        }
        (Element::OnePacketPort(address, _), Element::OnePacketPort(another, _)) => {
            address == another
        }
        // The link may be another one by now.
        (Element::OffloadLink(_), Element::OffloadLink(_)) => false,
        _ => one == other,
    }
}
