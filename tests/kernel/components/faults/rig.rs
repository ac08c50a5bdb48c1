//! An engine and a kernel that talk over faulty sockets, and an eye on the kernel that does not.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use kube_ipvs::kernel::Kernel;
use kube_ipvs_core::engine::{Edge, Engine, SyncError, Work};
use kube_ipvs_core::model::{Backend, Event, Pool, Settings, VirtualAddress};
use kube_ipvs_core::plan::{CountTargets, Observed, Operation, Outcome, Running, ServerOperation};
use netlink_ipvs::KernelError;

use super::cluster::{self, Victim};
use super::script::{Fault, Interloper, Script, Shared};
use super::transport;
use crate::common::model_kernel::{Holdings, Server};
use crate::components::{output, run};

/// More pieces of work than this in a row are an endless loop.
const MOST_WORK: usize = 40;
/// The engine's longest wait for a retry.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often everything is read back and put right.
pub(super) const AUDIT_PERIOD: Duration = Duration::from_secs(600);
/// When the engine is woken, after the one before, until it has put right what faults left: after
/// its longest wait for a retry, and for what no answer has told of by the next audit.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(61), Duration::from_secs(61), AUDIT_PERIOD, Duration::from_secs(61)];
/// Real servers that leave may keep their connections so long.
const DRAIN_PERIOD: Duration = Duration::from_secs(30);

/// An engine, its kernel over faulty sockets, and an eye on the same kernel.
pub(super) struct Rig {
    pub(super) engine: Engine,
    kernel: Kernel,
    script: Shared,
    eye: Kernel,
    pub(super) now: Instant,
    /// What Services hold that no fault is about, and that must stay.
    others: Option<Holdings>,
    /// Changes as victims do, and no fault is about it: all of it takes place at once.
    pub(super) bystander: Option<Victim>,
    /// What is being done, and within what: said where it fails.
    pub(super) task: String,
    pub(super) context: String,
    /// Pieces of work so far.
    pub(super) works: usize,
    /// Why the kernel could not be read the last time, if it could not.
    pub(super) unread: Option<String>,
}

impl Rig {
    /// In the namespace of this thread, which [`wire`] has made a node.
    pub(super) fn new() -> Self {
        let script = Shared::default();
        let mut rig = Self {
            engine: engine(),
            kernel: Kernel::over(|protocol| transport::open(protocol, &script)).unwrap(),
            script,
            eye: Kernel::open().unwrap(),
            now: Instant::now(),
            others: None,
            bystander: None,
            task: "the start".to_owned(),
            context: String::new(),
            works: 0,
            unread: None,
        };
        rig.tell(cluster::ground());
        rig
    }

    /// The same with all Services but the victim in the kernel, watched from now on.
    pub(super) fn with_others() -> Self {
        let mut rig = Self::new();
        rig.tell(cluster::others());
        rig.work();
        rig.assert_exact();
        rig.others = Some(rig.desired());
        rig
    }

    /// The agent starts anew, and is told of what happened to victims beside all others.
    pub(super) fn restart(&mut self, of_victims: impl IntoIterator<Item = Event>) {
        self.engine = engine();
        self.tell(cluster::ground());
        self.tell(cluster::others());
        self.tell(of_victims);
    }

    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.engine.handle_event(event));
    }

    /// From now on this goes wrong, and nothing else.
    pub(super) fn arm(&mut self, faults: impl IntoIterator<Item = Fault>) {
        let mut script = self.script.lock();
        script.faults = faults.into_iter().collect();
        let faults = script.faults.iter().take(4).map(ToString::to_string);
        self.task = self.context.clone() + &faults.collect::<Vec<_>>().join("; ");
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    /// Others do this between two parts of a dump, again and again.
    pub(super) fn disturb(&mut self, interloper: Option<Interloper>) {
        self.script.lock().interloper = interloper;
    }

    /// The faults that never happened.
    pub(super) fn spared(&self) -> Vec<String> {
        let script = self.script.lock();
        let spared = script.faults.iter().filter(|fault| fault.happened == 0);
        spared.map(ToString::to_string).collect()
    }

    /// Lets go of what must stay: it is about to be destroyed.
    pub(super) fn give_up_others(&mut self) {
        self.others = None;
    }

    /// Does all the work that there is, as the agent does. Looks after each piece whether the
    /// others have what they need.
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

    /// Lets time pass until the engine wants to be woken, but not more than so much.
    pub(super) fn wait(&mut self, at_most: Duration) -> Duration {
        let next = self.engine.poll_timeout().unwrap_or(self.now + at_most);
        let passed = next.saturating_duration_since(self.now).min(at_most);
        self.now += passed;
        passed
    }

    /// Lets pass what the engine waits before it reads the kernel because of tampering.
    pub(super) fn wait_for_tampering(&mut self) {
        self.now += Duration::from_secs(1);
    }

    /// What went wrong last, with whatever is to be tried again.
    pub(super) fn messages(&self) -> Vec<String> {
        self.engine.errors().map(|error| error.failure.message.clone()).collect()
    }

    /// Nothing of a victim's is missing.
    pub(super) fn assert_present(&mut self, victim: Victim) {
        let difference = self.difference().unwrap_or_default();
        let lacks =
            difference.lines().find(|line| line.starts_with("lacks") && victim.is_named(line));
        assert_eq!(lacks, None, "{}", self.task);
    }

    /// No fault any more: after few rounds of work the kernel is as desired.
    pub(super) fn heal(&mut self) {
        self.script.lock().faults.clear();
        self.script.lock().interloper = None;
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
        assert!(left.is_empty(), "{}: still in trouble with {left:?}", self.task);
    }

    /// What the kernel should hold.
    fn desired(&self) -> Holdings {
        Holdings::desired(self.engine.desired())
    }

    /// What it holds.
    fn held(&mut self) -> Holdings {
        holdings(self.eye.observe().unwrap())
    }

    /// How the kernel differs from what it should be.
    pub(super) fn difference(&mut self) -> Option<String> {
        let (held, desired) = (self.held(), self.desired());
        (held != desired).then(|| difference(&held, &desired))
    }

    /// The kernel is as desired, once what is leaving without connections has left.
    pub(super) fn assert_exact(&mut self) {
        self.now += Duration::from_secs(1);
        self.work();
        if let Some(difference) = self.difference() {
            panic!("{}: the kernel is not as desired\n{difference}", self.task);
        }
    }

    /// All that the others need is there as they need it.
    fn assert_others(&mut self) {
        let Some(others) = self.others.take() else { return };
        let held = self.held();
        let task = &self.task;
        assert!(held.tables && held.device, "{task}: ground is gone");
        let lost: Vec<_> = others.elements.difference(&held.elements).collect();
        assert!(lost.is_empty(), "{task}: others lost {lost:?}");
        for (place, route) in &others.routes {
            assert_eq!(held.routes.get(place), Some(route), "{task}: another's route");
        }
        for (address, server) in &others.servers {
            assert_eq!(held.servers.get(address), Some(server), "{task}: another's servers");
        }
        self.others = Some(others);
        if let Some(bystander) = self.bystander {
            let difference = difference(&held, &self.desired());
            // What leaves has a moment for its connections.
            let lacks = |line: &&str| line.starts_with("lacks") && bystander.is_named(line);
            let line = difference.lines().find(lacks);
            assert_eq!(line, None, "{}: the bystander's", self.task);
        }
    }

    /// Whoever lacks something is named in what went wrong, and it is to be tried again.
    pub(super) fn assert_told(&mut self, victims: &[Victim]) {
        let Some(difference) = self.difference() else { return };
        let messages = self.messages();
        for victim in victims.iter().filter(|victim| victim.is_named(&difference)) {
            assert!(
                messages.iter().any(|message| victim.is_named(message)),
                "{}: nobody is told of {victim:?}, but {:#?}\n{difference}",
                self.task,
                messages.first()
            );
        }
        let wakes = self.engine.poll_timeout();
        assert!(wakes.is_some_and(|at| at <= self.now + PAUSES[0]), "{}: no retry", self.task);
    }

    /// What `ipvsadm` prints is what is desired.
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

/// One that has been told of nothing.
fn engine() -> Engine {
    let settings = Settings { drain_period: DRAIN_PERIOD, ..Settings::for_node("n1") };
    Engine::new(&settings, Some(AUDIT_PERIOD))
}

/// How what is held differs from what is desired, in short.
fn difference(held: &Holdings, desired: &Holdings) -> String {
    let mut lines = Vec::new();
    let ground = |it: &Holdings| (it.tables, it.device, it.earlier.clone());
    if ground(held) != ground(desired) {
        let Holdings { tables, device, earlier, .. } = held;
        lines.push(format!("tables {tables}, device {device}, earlier {earlier:?}"));
    }
    let elements = |sign, one: &Holdings, other: &Holdings| {
        let more = one.elements.difference(&other.elements);
        more.map(|element| format!("{sign} {} {{ {element} }}", element.set())).collect::<Vec<_>>()
    };
    lines.extend(elements("lacks", desired, held));
    lines.extend(elements("has", held, desired));
    let routes = |sign, one: &Holdings, other: &Holdings| {
        let more = one.routes.iter().filter(|(key, it)| other.routes.get(key) != Some(it));
        more.map(|(_, route)| format!("{sign} {route}")).collect::<Vec<_>>()
    };
    lines.extend(routes("lacks", desired, held));
    lines.extend(routes("has", held, desired));
    let servers = |sign, one: &Holdings, other: &Holdings| {
        let more = one.servers.iter().filter(|(key, it)| other.servers.get(key) != Some(it));
        more.map(|(address, server)| format!("{sign} {address} {:?}", server.reals))
            .collect::<Vec<_>>()
    };
    lines.extend(servers("lacks", desired, held));
    lines.extend(servers("has", held, desired));
    lines.join("\n")
}

fn holdings(observed: Observed) -> Holdings {
    let mut holdings = Holdings {
        tables: observed.tables,
        elements: observed.elements.into_iter().collect(),
        device: observed.device,
        routes: observed.routes.into_iter().map(|it| (it.prefix, it)).collect(),
        earlier: observed.earlier,
        ..Holdings::default()
    };
    observed.pools.iter().for_each(|pool| holdings.add_pool(pool));
    holdings
}

/// Makes the namespace a node.
pub(super) fn wire() {
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
        self.kernel.observe_pool(address)
    }

    fn listening(&mut self) -> Result<Vec<VirtualAddress>, KernelError> {
        Ok(Vec::new())
    }

    fn connections(&mut self, targets: &CountTargets) -> Result<Vec<Running>, KernelError> {
        self.kernel.connections(targets)
    }

    fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        self.kernel.apply(operations)
    }

    fn now(&mut self) -> Instant {
        self.now
    }
}
