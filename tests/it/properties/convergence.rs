//! Plans take any kernel to the desired state, whatever fails on the way, and then stop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kube_ipvs_core::engine::{DesiredState, Edge, Work};
use kube_ipvs_core::model::{
    Backend, Element, Event, PortSet, Protocol, Scheduler, Settings, VirtualAddress, VirtualServer,
};
use kube_ipvs_core::plan::{
    Carrier, FailureKind, ForeignClaims, Observed, Operation, Running, is_named,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::cases;
use super::settings::settings;
use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::{Fault, KernelState, ModelKernel, Server};
use crate::common::objects::{service, slice, without_service};
use crate::common::random::{Objects, destinations, events};

pub(super) type Servers = BTreeMap<VirtualAddress, Server>;

/// An agent that has been told all objects there are and has done its work on a kernel.
fn started(
    settings: &Settings,
    objects: &Objects,
    kernel: ModelKernel,
) -> Result<ModelAgent, String> {
    let mut agent = ModelAgent::new(settings, kernel);
    for event in objects.listed() {
        agent.deliver(event);
    }
    agent.settle()?;
    Ok(agent)
}

pub(super) fn check(agent: &ModelAgent, foreign: &Servers) -> Result<(), TestCaseError> {
    let mut desired = KernelState::desired(agent.engine.desired());
    desired.servers.extend(foreign.clone());
    let held = &agent.kernel.state;
    let differing: Vec<_> = held.elements.symmetric_difference(&desired.elements).collect();
    prop_assert_eq!(differing, Vec::<&_>::new());
    prop_assert_eq!(held, &desired);
    prop_assert_eq!(agent.engine.failures(), 0);
    prop_assert!(agent.engine.is_synced());
    prop_assert_eq!(&agent.kernel.collisions, &Vec::new());
    Ok(())
}

/// The virtual servers that are not this agent's: neither in a range of its own, nor named by its
/// routes, its table or an earlier version's, nor claimed by kube-proxy, nor where a Service has a front end or a
/// pool, even if that has no endpoint.
fn foreign(kernel: &ModelKernel, desired: &DesiredState) -> Servers {
    let ModelKernel { state: held, claims, .. } = kernel;
    let elements = held.elements.iter().copied().collect();
    let routes = held.routes.values().copied().collect();
    let earlier = held.earlier.clone();
    let is_named = is_named(&Observed { elements, routes, earlier, ..Observed::default() });
    let pools = desired.services().flat_map(|(_, program)| &program.pools);
    let wanted: BTreeSet<_> = pools.map(|pool| pool.server.address).collect();
    let is_foreign = |address: &VirtualAddress| {
        !is_named(address)
            && !claims.has(address)
            && !wanted.contains(address)
            && !desired.is_ours(address)
    };
    let servers = held.servers.iter().filter(|(address, _)| is_foreign(address));
    servers.map(|(address, server)| (*address, server.clone())).collect()
}

/// A change of the kernel by another program.
#[derive(Clone, Debug)]
pub(super) enum Mischief {
    LoseTables,
    LoseDevice,
    LoseEarlier,
    AddEarlier(VirtualAddress),
    LoseElement(Index),
    LoseRoute(Index),
    LoseServer(Index),
    LoseReal(Index),
    AddReal(Index),
    SetWeight(Index),
    SetScheduler(Index),
    AddForeign(u8),
    AddServer(VirtualAddress, bool),
}

/// Where there may be a Service's front end.
fn front_end() -> impl Strategy<Value = VirtualAddress> {
    let ports = [(80, Protocol::Tcp), (80, Protocol::Udp), (30080, Protocol::Tcp)];
    (select(destinations()), select(ports.to_vec()))
        .prop_map(|(ip, (port, protocol))| VirtualAddress { ip, port, protocol })
}

/// What may be done to virtual servers that are ours.
pub(super) fn ipvs_mischief() -> impl Strategy<Value = Mischief> {
    let at = any::<Index>;
    prop_oneof![
        2 => at().prop_map(Mischief::LoseServer),
        3 => at().prop_map(Mischief::LoseReal),
        2 => at().prop_map(Mischief::AddReal),
        2 => at().prop_map(Mischief::SetWeight),
        2 => at().prop_map(Mischief::SetScheduler),
    ]
}

fn mischief() -> impl Strategy<Value = Mischief> {
    let at = any::<Index>;
    prop_oneof![
        1 => Just(Mischief::LoseTables),
        1 => Just(Mischief::LoseDevice),
        1 => Just(Mischief::LoseEarlier),
        2 => front_end().prop_map(Mischief::AddEarlier),
        3 => (front_end(), any::<bool>()).prop_map(|(at, drains)| Mischief::AddServer(at, drains)),
        4 => at().prop_map(Mischief::LoseElement),
        2 => at().prop_map(Mischief::LoseRoute),
        11 => ipvs_mischief(),
        3 => (1..9_u8).prop_map(Mischief::AddForeign),
    ]
}

pub(super) fn pick<T: Clone>(index: Index, all: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<_> = all.collect();
    (!all.is_empty()).then(|| index.get(&all).clone())
}

impl Mischief {
    pub(super) fn apply(self, held: &mut KernelState) {
        match self {
            Self::LoseTables => {
                held.tables = false;
                held.elements.clear();
            }
            Self::LoseDevice => held.device = false,
            Self::LoseEarlier => held.earlier = None,
            Self::AddEarlier(server) => {
                held.earlier.get_or_insert_default().push(Element::Port(PortSet::Former, server));
            }
            Self::AddServer(address, drains) => {
                let server = VirtualServer::new(address, Scheduler::Rr);
                let reals = [((address.ip, 8080), u32::from(!drains))].into();
                held.servers.entry(address).or_insert(Server { server, reals });
            }
            Self::LoseElement(at) => {
                pick(at, held.elements.iter().copied()).map(|it| held.elements.remove(&it));
            }
            Self::LoseRoute(at) => {
                pick(at, held.routes.keys().copied()).map(|key| held.routes.remove(&key));
            }
            Self::LoseServer(at) => {
                pick(at, held.servers.keys().copied()).map(|key| held.servers.remove(&key));
            }
            Self::LoseReal(at) => Self::with_server(at, held, |server| {
                server.reals.pop_first();
            }),
            Self::AddReal(at) => Self::with_server(at, held, |server| {
                let ip = server.server.address.ip;
                server.reals.insert((ip, 7), 3);
            }),
            Self::SetWeight(at) => Self::with_server(at, held, |server| {
                server.reals.values_mut().for_each(|weight| *weight = 7);
            }),
            Self::SetScheduler(at) => Self::with_server(at, held, |server| {
                server.server.scheduler = Scheduler::Unknown;
            }),
            Self::AddForeign(number) => {
                let address: VirtualAddress = format!("198.18.0.{number}:80").parse().unwrap();
                let server = VirtualServer::new(address, Scheduler::Wlc);
                let reals = [((address.ip, 8080), 5)].into();
                held.servers.insert(address, Server { server, reals });
            }
        }
    }

    fn with_server(at: Index, held: &mut KernelState, change: impl FnOnce(&mut Server)) {
        let address = pick(at, held.servers.keys().copied());
        if let Some(server) = address.and_then(|address| held.servers.get_mut(&address)) {
            change(server);
        }
    }
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let kinds = vec![FailureKind::Drift, FailureKind::Unknown, FailureKind::Refused];
    let fault = (select(kinds), any::<bool>()).prop_map(|(kind, applied)| Fault {
        kind,
        // What the kernel refuses it does not carry out.
        applied: applied && kind != FailureKind::Refused,
    });
    proptest::option::weighted(0.3, fault)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_start_with_another_configuration_equals_a_start_on_an_empty_kernel(
        before in settings(),
        after in settings(),
        events in events(1..30),
    ) {
        let objects = Objects::after(&events);
        let former = started(&before, &objects, ModelKernel::default());
        let ModelAgent { kernel, .. } = former.map_err(TestCaseError::fail)?;
        let agent = started(&after, &objects, kernel).map_err(TestCaseError::fail)?;
        check(&agent, &Servers::new())?;
        let anew = started(&after, &objects, ModelKernel::default()).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&agent.kernel.state, &anew.kernel.state);
    }


    #[test]
    fn every_change_reaches_the_kernel_and_work_ends(
        settings in settings(),
        before in events(0..20),
        changes in vec(events(1..6), 1..6),
    ) {
        let mut all: Vec<Event> = before;
        let objects = Objects::after(&all);
        let started = started(&settings, &objects, ModelKernel::default());
        let mut agent = started.map_err(TestCaseError::fail)?;
        check(&agent, &Servers::new())?;
        for events in changes {
            for event in &events {
                agent.deliver(event.clone());
            }
            all.extend(events);
            agent.settle().map_err(TestCaseError::fail)?;
            check(&agent, &Servers::new())?;
        }
        // An agent that starts on this kernel finds nothing to do.
        let ModelAgent { kernel, .. } = agent;
        let mut second = ModelAgent::new(&settings, kernel);
        for event in Objects::after(&all).listed() {
            second.deliver(event);
        }
        prop_assert_eq!(second.settle(), Ok(vec![]));
        check(&second, &Servers::new())?;
    }

    #[test]
    fn any_kernel_reaches_the_desired_state_and_foreign_servers_survive(
        former in (settings(), events(0..20)),
        mischief in vec(mischief(), 0..12),
        unreadable in vec((any::<Index>(), 1..4_usize), 0..3),
        connected in vec(select(destinations()), 0..4),
        flows in vec((front_end(), select(destinations())), 0..6),
        claimed in vec(select(destinations()), 0..3),
        settings in settings(),
        now in events(0..20),
    ) {
        let (former_settings, former) = former;
        let ModelAgent { mut kernel, .. } =
            started(&former_settings, &Objects::after(&former), ModelKernel::default())
                .map_err(TestCaseError::fail)?;
        for deed in mischief {
            deed.apply(&mut kernel.state);
        }
        for (at, times) in unreadable {
            let address = pick(at, kernel.state.servers.keys().copied());
            kernel.unreadable.extend(address.map(|address| (address, times)));
        }
        // Connections that do not end keep nothing for good.
        kernel.connections = connected.into_iter().map(|ip| ((ip, 8080), 1)).collect();
        let flows = flows.into_iter().filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
        kernel.flows = flows.map(|(frontend, ip)| (frontend, SocketAddr::new(ip, 8080))).collect();
        kernel.claims = ForeignClaims { addresses: claimed.into_iter().collect(), ..ForeignClaims::default() };
        let before = kernel.clone();
        let agent = started(&settings, &Objects::after(&now), kernel)
            .map_err(TestCaseError::fail)?;
        check(&agent, &foreign(&before, agent.engine.desired()))?;
        // An agent that was stopped before it could move flows has left them.
        let leads_elsewhere = |(frontend, backend): &&(VirtualAddress, SocketAddr)| {
            let (frontend, backend, carrier) = (*frontend, *backend, Carrier::Tracking);
            let flow = Running { frontend, backend, carrier, count: 1 };
            !agent.engine.desired().pools_of(&flow).is_empty()
        };
        let held: Vec<_> = agent.kernel.flows.iter().filter(leads_elsewhere).collect();
        prop_assert_eq!(held, Vec::<&_>::new());
    }

    #[test]
    fn no_flow_outlives_its_front_end_wherever_an_agent_is_stopped(
        settings in settings(),
        before in events(0..30),
        after in events(1..6),
        (plans, cut) in (0..2_usize, any::<Index>()),
    ) {
        stop_within(&settings, [&before, &after], plans, |operations| {
            cut.index(operations.len() + 1)
        })?;
    }

    #[test]
    fn the_desired_state_is_reached_despite_failures(
        settings in settings(),
        before in events(0..20),
        changes in vec((events(1..6), vec(fault(), 0..30)), 1..5),
    ) {
        let objects = Objects::after(&before);
        let mut agent = ModelAgent::new(&settings, ModelKernel::default());
        for event in objects.listed() {
            agent.deliver(event);
        }
        for (events, faults) in changes {
            agent.kernel.faults.extend(faults);
            for event in events {
                agent.deliver(event);
            }
            agent.settle().map_err(TestCaseError::fail)?;
            // What failed for lack of a plan may still come; from now on nothing does.
            agent.kernel.faults.clear();
            agent.settle().map_err(TestCaseError::fail)?;
            // In doubt about what it holds, an agent may try what cannot be.
            agent.kernel.collisions.clear();
            check(&agent, &Servers::new())?;
        }
    }
}

/// Checks that no flow is left when an agent is stopped within a plan and started again. `cut` says how
/// many of the plan's operations it has carried out.
fn stop_within(
    settings: &Settings,
    [before, after]: [&[Event]; 2],
    mut plans_left: usize,
    cut: impl Fn(&[Operation]) -> usize,
) -> Result<(), TestCaseError> {
    let mut agent = started(settings, &Objects::after(before), ModelKernel::default())
        .map_err(TestCaseError::fail)?;
    agent.kernel.flows = carried(agent.engine.desired());
    for event in after {
        agent.deliver(event.clone());
    }
    let stopped = loop {
        let mut kernel = agent.kernel.clone();
        match agent.step() {
            Some(Work::Apply(operations)) if plans_left == 0 => {
                kernel.apply(&operations[..cut(&operations)]);
                break kernel;
            }
            Some(Work::Apply(_)) => plans_left -= 1,
            Some(_) => {}
            None => break kernel,
        }
    };
    let objects = Objects::after(before.iter().chain(after));
    let agent = started(settings, &objects, stopped).map_err(TestCaseError::fail)?;
    let led = carried(agent.engine.desired());
    let left: Vec<_> = agent.kernel.flows.difference(&led).collect();
    prop_assert_eq!(left, Vec::<&_>::new());
    Ok(())
}

#[test]
fn no_flow_of_one_packet_outlives_its_front_end() {
    let web = service("a/one").cluster_ip("10.96.0.10").udp("dns", 80);
    let web = web.load_balancer_ip("203.0.113.1").local_external();
    let web = web.annotation("kube-ipvs.io/one-packet", "true");
    let endpoints = slice("a/one-1").udp("dns", 8080).ready("10.244.1.5", "n1");
    let settings = Settings { one_packet_everywhere: true, ..Settings::for_node("n1") };
    let before: [Event; 2] = [web.into(), endpoints.into()];
    for cut in 0..30 {
        let after = [without_service("a/one")];
        stop_within(&settings, [&before, &after], 0, |operations| cut.min(operations.len()))
            .unwrap();
    }
}

/// A flow of datagrams to each address of each front end that leads elsewhere, and each endpoint.
fn carried(desired: &DesiredState) -> BTreeSet<(VirtualAddress, SocketAddr)> {
    let mut flows = BTreeSet::new();
    for (_, program) in desired.services() {
        let datagrams = program.frontends.iter().filter(|it| it.address.protocol == Protocol::Udp);
        for frontend in datagrams {
            let node_port_ips = &desired.node().node_port_ips;
            let ips =
                node_port_ips.iter().filter(|ip| ip.is_ipv4() == frontend.address.ip.is_ipv4());
            let at: Vec<_> = match frontend.address.ip.is_unspecified() {
                true => ips.map(|ip| frontend.address.at(*ip)).collect(),
                false => vec![frontend.address],
            };
            let led = frontend.targets().map(|target| frontend.pool_of(target));
            let led = led.into_iter().flatten().filter(|pool| *pool != frontend.address);
            let backends = led.filter_map(|pool| program.pool(&pool)).flat_map(|pool| {
                pool.backends.iter().filter(|it| !it.is_draining()).map(Backend::socket)
            });
            for backend in backends {
                flows.extend(at.iter().map(|at| (*at, backend)));
            }
        }
    }
    flows
}

#[test]
fn retries_of_a_refused_operation_slow_down() {
    use crate::common::objects::{node, only_slices, service, service_cidrs};

    let mut agent = ModelAgent::new(&Settings::for_node("n1"), ModelKernel::default());
    agent
        .deliver(node("n1").internal_ip("192.0.2.1"))
        .deliver(service_cidrs(&["10.96.0.0/16"]))
        .deliver(only_slices([]))
        .deliver(crate::common::objects::only_services([service("default/web")
            .cluster_ip("10.96.0.10")
            .port("", 80)]));
    agent.settle().unwrap();
    agent.kernel.faults =
        (0..16).map(|_| Some(Fault { kind: FailureKind::Refused, applied: false })).collect();
    let start = agent.kernel.now;
    agent.deliver(service("default/other").cluster_ip("10.96.0.11").port("", 80));
    let mut tries = BTreeSet::new();
    while !agent.kernel.faults.is_empty() {
        while agent.step().is_some() {}
        tries.insert((agent.kernel.now - start).as_secs());
        if let Some(due) = agent.engine.poll_timeout() {
            agent.kernel.now = agent.kernel.now.max(due);
        }
    }
    agent.settle().unwrap();
    let tries: Vec<_> = tries.into_iter().collect();
    assert_eq!(tries, [0, 1, 3, 7]);
}
