//! An engine on a kernel over faulty sockets, and an observer of that kernel over sound ones.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs_core::engine::{Edge, Engine, SyncError, Work};
use kube_ipvs_core::model::{Backend, Event, Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running, ServerOperation};
use netlink_ipvs::KernelError;

use super::cluster::{self, Target};
use super::script::{Fault, Interference, Script, Shared};
use super::transport;
use crate::common::model_kernel::{KernelState, Server};
use crate::components::{output, run};

/// More pieces of work than this in a row are an endless loop.
const MOST_WORK: usize = 40;
/// The engine's longest wait for a retry.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The period of audits.
pub(super) const AUDIT_PERIOD: Duration = Duration::from_secs(600);
/// The pauses within which the engine repairs what faults left: its longest wait for a retry, and for
/// what no answer reported the next audit.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(61), Duration::from_secs(61), AUDIT_PERIOD, Duration::from_secs(61)];
const DRAIN_PERIOD: Duration = Duration::from_secs(30);

/// An engine, its kernel over faulty sockets, and an observer of the same kernel.
pub(super) struct FaultHarness {
    pub(super) engine: Engine,
    kernel: Kernel,
    script: Shared,
    observer: Kernel,
    pub(super) now: Instant,
    /// The kernel's state of Services that no fault concerns. It must stay.
    others: Option<KernelState>,
    /// A Service that changes as targets do, but has no faults: each of its changes takes effect at
    /// once.
    pub(super) unaffected: Option<Target>,
    /// What the test does, and within what, for its failures.
    pub(super) task: String,
    pub(super) context: String,
    /// The number of pieces of work so far.
    pub(super) works: usize,
    /// The error of the last read of the kernel, if it failed.
    pub(super) unread: Option<String>,
}

impl FaultHarness {
    /// Works in the namespace of this thread, which [`set_up_node`] has made a node.
    pub(super) fn new() -> Self {
        let script = Shared::default();
        let mut harness = Self {
            engine: engine(),
            kernel: Kernel::over(|protocol| transport::open(protocol, &script)).unwrap(),
            script,
            observer: Kernel::open().unwrap(),
            now: Instant::now(),
            others: None,
            unaffected: None,
            task: "the start".to_owned(),
            context: String::new(),
            works: 0,
            unread: None,
        };
        harness.deliver(cluster::ground());
        harness
    }

    /// Programs all Services without faults, and checks from now on that they stay.
    pub(super) fn with_others() -> Self {
        let mut harness = Self::new();
        harness.deliver(cluster::others());
        harness.work();
        harness.assert_exact();
        harness.others = Some(harness.desired());
        harness
    }

    /// Starts the agent again with all objects: the usual ones and these.
    pub(super) fn restart(&mut self, of_targets: impl IntoIterator<Item = Event>) {
        self.engine = engine();
        self.deliver(cluster::ground());
        self.deliver(cluster::others());
        self.deliver(of_targets);
    }

    pub(super) fn deliver(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.engine.handle_event(event));
    }

    /// Replaces the faults that happen from now on.
    pub(super) fn arm(&mut self, faults: impl IntoIterator<Item = Fault>) {
        let mut script = self.script.lock();
        script.faults = faults.into_iter().collect();
        let faults = script.faults.iter().take(4).map(ToString::to_string);
        self.task = self.context.clone() + &faults.collect::<Vec<_>>().join("; ");
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    /// Runs this between every two parts of a dump, as another program would.
    pub(super) fn disturb(&mut self, interference: Option<Interference>) {
        self.script.lock().interference = interference;
    }

    /// Returns the faults that never happened.
    pub(super) fn unused_faults(&self) -> Vec<String> {
        let script = self.script.lock();
        let unused = script.faults.iter().filter(|fault| fault.happened == 0);
        unused.map(ToString::to_string).collect()
    }

    /// No longer checks the other Services, which are about to be deleted.
    pub(super) fn forget_others(&mut self) {
        self.others = None;
    }

    /// Does all the work that there is, as the agent does. Checks after each piece that the other
    /// Services are served.
    pub(super) fn work(&mut self) -> Vec<SyncError> {
        let mut failures = Vec::new();
        for _ in 0..MOST_WORK {
            let mut edge = Edged { kernel: &mut self.kernel, now: self.now };
            let Some(work) = self.engine.next_work(&mut edge) else { return failures };
            self.works += 1;
            let result = self.engine.carry_out(&work, &mut edge);
            match (&work, &result) {
                (Work::Observe, Ok(_)) => self.unread = None,
                (Work::Observe | Work::ObservePools(_), Err(error)) => {
                    self.unread = Some(error.to_string());
                }
                (Work::Apply(_), _) => self.assert_others(),
                (Work::Listen | Work::ObservePools(_) | Work::Count(_) | Work::Sample(_), _) => {}
            }
            failures.extend(result.into_iter().flatten());
        }
        panic!("{}: work without end; last {:?}", self.task, failures.last());
    }

    /// Advances the time to the engine's next timeout, but at most by `at_most`.
    pub(super) fn wait(&mut self, at_most: Duration) -> Duration {
        let next = self.engine.poll_timeout().unwrap_or(self.now + at_most);
        let passed = next.saturating_duration_since(self.now).min(at_most);
        self.now += passed;
        passed
    }

    /// Advances the time by the engine's wait before it reads the kernel after drift.
    pub(super) fn wait_for_drift(&mut self) {
        self.now += Duration::from_secs(1);
    }

    /// Returns the last errors of all operations that are retried.
    pub(super) fn messages(&self) -> Vec<String> {
        self.engine.errors().map(|error| error.failure.message.clone()).collect()
    }

    /// Asserts that a target lacks nothing.
    pub(super) fn assert_present(&mut self, target: Target) {
        let difference = self.difference().unwrap_or_default();
        let lacks =
            difference.lines().find(|line| line.starts_with("lacks") && target.is_named(line));
        assert_eq!(lacks, None, "{}", self.task);
    }

    /// Ends all faults, and asserts that the kernel soon reaches the desired state.
    pub(super) fn heal(&mut self) {
        self.script.lock().faults.clear();
        self.script.lock().interference = None;
        self.work();
        for pause in PAUSES {
            let is_well = self.engine.failures() == 0 && self.unread.is_none();
            if is_well && self.difference().is_none() {
                return;
            }
            self.now += pause;
            self.work();
        }
        self.assert_exact();
        assert_eq!(self.unread, None, "{}: still not read", self.task);
        let left: Vec<_> = self.engine.errors().collect();
        assert!(left.is_empty(), "{}: still failing: {left:?}", self.task);
    }

    fn desired(&self) -> KernelState {
        KernelState::desired(self.engine.desired())
    }

    fn actual(&mut self) -> KernelState {
        kernel_state(self.observer.observe().unwrap())
    }

    /// Describes how the actual state differs from the desired one.
    pub(super) fn difference(&mut self) -> Option<String> {
        let (actual, desired) = (self.actual(), self.desired());
        (actual != desired).then(|| difference(&actual, &desired))
    }

    /// Asserts that the kernel is in the desired state once backends without connections have drained.
    pub(super) fn assert_exact(&mut self) {
        self.now += Duration::from_secs(1);
        self.work();
        if let Some(difference) = self.difference() {
            panic!("{}: the kernel is not as desired\n{difference}", self.task);
        }
    }

    /// Asserts that the other Services are served, and the unaffected one as it is desired.
    fn assert_others(&mut self) {
        let Some(others) = self.others.take() else { return };
        let actual = self.actual();
        let task = &self.task;
        assert!(actual.tables && actual.device, "{task}: a table or the device is gone");
        let lost: Vec<_> = others.elements.difference(&actual.elements).collect();
        assert!(lost.is_empty(), "{task}: others lost {lost:?}");
        for (place, route) in &others.routes {
            assert_eq!(actual.routes.get(place), Some(route), "{task}: another's route");
        }
        for (address, server) in &others.servers {
            assert_eq!(actual.servers.get(address), Some(server), "{task}: another's servers");
        }
        self.others = Some(others);
        if let Some(unaffected) = self.unaffected {
            let difference = difference(&actual, &self.desired());
            // A backend that drains may be there for a moment.
            let lacks = |line: &&str| line.starts_with("lacks") && unaffected.is_named(line);
            let line = difference.lines().find(lacks);
            assert_eq!(line, None, "{}: of the unaffected Service", self.task);
        }
    }

    /// Asserts that errors name each target that lacks something, and that a retry is due.
    pub(super) fn assert_reported(&mut self, targets: &[Target]) {
        let Some(difference) = self.difference() else { return };
        let messages = self.messages();
        for target in targets.iter().filter(|target| target.is_named(&difference)) {
            assert!(
                messages.iter().any(|message| target.is_named(message)),
                "{}: no error names {target:?}, but {:#?}\n{difference}",
                self.task,
                messages.first()
            );
        }
        let wakes = self.engine.poll_timeout();
        assert!(wakes.is_some_and(|at| at <= self.now + PAUSES[0]), "{}: no retry", self.task);
    }

    /// Asserts that `ipvsadm` prints the desired state.
    pub(super) fn assert_saved(&mut self) {
        let mut desired: Vec<String> = Vec::new();
        for Server { server, reals } in self.desired().servers.values() {
            desired.push(ServerOperation::Add(*server).to_string());
            desired.extend(reals.iter().map(|((address, port), weight)| {
                let (address, port, weight) = (*address, *port, *weight);
                let real = Backend { address, port, weight, local: false };
                ServerOperation::AddReal(server.address, real, server.max_connections).to_string()
            }));
        }
        desired.sort();
        let saved = output("ipvsadm -Sn");
        let mut saved: Vec<_> = saved.lines().map(|line| line.trim().to_owned()).collect();
        saved.sort();
        assert_eq!(saved, desired, "{}", self.task);
    }
}

fn engine() -> Engine {
    let settings = Settings { drain_period: DRAIN_PERIOD, ..Settings::for_node("n1") };
    Engine::new(&settings, Some(AUDIT_PERIOD))
}

/// Describes how the actual state differs from the desired one, a line for each difference.
fn difference(actual: &KernelState, desired: &KernelState) -> String {
    let mut lines = Vec::new();
    let ground = |it: &KernelState| (it.tables, it.device, it.earlier.clone());
    if ground(actual) != ground(desired) {
        let KernelState { tables, device, earlier, .. } = actual;
        lines.push(format!("tables {tables}, device {device}, earlier {earlier:?}"));
    }
    let elements = |sign, one: &KernelState, other: &KernelState| {
        let more = one.elements.difference(&other.elements);
        more.map(|element| format!("{sign} {} {{ {element} }}", element.set())).collect::<Vec<_>>()
    };
    lines.extend(elements("lacks", desired, actual));
    lines.extend(elements("has", actual, desired));
    let routes = |sign, one: &KernelState, other: &KernelState| {
        let more = one.routes.iter().filter(|(key, it)| other.routes.get(key) != Some(it));
        more.map(|(_, route)| format!("{sign} {route}")).collect::<Vec<_>>()
    };
    lines.extend(routes("lacks", desired, actual));
    lines.extend(routes("has", actual, desired));
    let servers = |sign, one: &KernelState, other: &KernelState| {
        let more = one.servers.iter().filter(|(key, it)| other.servers.get(key) != Some(it));
        more.map(|(address, server)| format!("{sign} {address} {:?}", server.reals))
            .collect::<Vec<_>>()
    };
    lines.extend(servers("lacks", desired, actual));
    lines.extend(servers("has", actual, desired));
    lines.join("\n")
}

fn kernel_state(observed: Observed) -> KernelState {
    let mut state = KernelState {
        tables: observed.tables,
        elements: observed.elements.into_iter().collect(),
        device: observed.device,
        routes: observed.routes.into_iter().map(|it| (it.prefix, it)).collect(),
        earlier: observed.earlier,
        ..KernelState::default()
    };
    observed.pools.iter().for_each(|pool| state.add_pool(pool));
    state
}

/// Makes the namespace a node.
pub(super) fn set_up_node() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip address add 192.0.2.1/24 dev uplink");
    run("ip address add 2001:db8::1/64 dev uplink nodad");
    run("ip link set uplink up");
}

/// The kernel at a moment; no socket listens there.
struct Edged<'a> {
    kernel: &'a mut Kernel,
    now: Instant,
}

impl Edge for Edged<'_> {
    type Error = KernelError;

    fn observe(&mut self) -> Result<Observed, KernelError> {
        self.kernel.observe()
    }

    fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, KernelError> {
        self.kernel.ipvs.observe_server(address)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, KernelError> {
        Ok(Vec::new())
    }

    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, KernelError> {
        self.kernel.conntrack.count(targets)
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        self.kernel.apply(operations)
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}
