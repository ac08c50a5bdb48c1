//! Every prefix of a plan is safe: a client that is served before and after is served all the time, by
//! no other endpoint, and never past a filter or without the masquerade that both states have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::engine::{DesiredState, Edge};
use kube_ipvs_core::explain::{Source, explain};
use kube_ipvs_core::model::{
    Element, Event, Family, PortSet, Protocol, ServiceKey, Settings, Target, VirtualAddress,
};
use kube_ipvs_core::plan::Operation;
use proptest::prelude::*;

use super::cases;
use super::settings::{carry, settings};
use crate::common::datapath::{Action, Client};
use crate::common::model_agent::ModelAgent;
use crate::common::model_kernel::{KernelState, ModelKernel, runs};
use crate::common::objects::{ip, node, service, slice};
use crate::common::random::{Objects, SOURCES, destinations, events};

/// Every address with every port that occurs.
fn destinations_and_ports() -> Vec<VirtualAddress> {
    let ports = [(80, Protocol::Tcp), (80, Protocol::Udp), (81, Protocol::Tcp)];
    let node_ports = [(30080, Protocol::Tcp), (30080, Protocol::Udp), (80, Protocol::Sctp)];
    destinations()
        .into_iter()
        .flat_map(|ip| {
            let ports = ports.into_iter().chain(node_ports);
            ports.map(move |(port, protocol)| VirtualAddress { ip, port, protocol })
        })
        .collect()
}

/// All addresses that the node may ever have.
fn own() -> [IpAddr; 3] {
    ["192.0.2.1", "192.0.2.7", "2001:db8::1"].map(ip)
}

/// Returns a client of an address; `None` if there is none of its family.
fn client(desired: &DesiredState, source: &str, family: Family) -> Option<Client> {
    let around = desired.context();
    match source.parse::<Source>().unwrap() {
        Source::Node => around.source_ip(family).map(Client::Node),
        Source::Address(ip) if Family::of(ip) != family => None,
        Source::Address(ip) if around.is_own(ip) => Some(Client::Node(ip)),
        Source::Address(ip) if around.pod_cidrs.iter().any(|range| range.contains(&ip)) => {
            Some(Client::Pod(ip))
        }
        Source::Address(ip) => Some(Client::Other(ip)),
    }
}

/// A connection, with what becomes of it before and after a plan.
struct Lookup {
    address: VirtualAddress,
    client: Client,
    before: Action,
    after: Action,
    /// Whether a side drops it by a filter of the front end, and neither lets it try.
    filtered: bool,
    /// Whether nothing but the front end itself leads it.
    is_outsider: bool,
}

impl Lookup {
    fn new(
        address: VirtualAddress,
        client: Client,
        start: &KernelState,
        end: &KernelState,
    ) -> Self {
        let action = |held: &KernelState| held.action(address, client, &own());
        let filters = |held: &KernelState| {
            let filters = [
                Element::Port(PortSet::Restricted, address),
                Element::Port(PortSet::Dropped, address),
            ];
            action(held) == Action::Drop && filters.iter().any(|it| held.elements.contains(it))
        };
        Self {
            address,
            client,
            is_outsider: !client.is_node() && !start.is_insider(client),
            before: action(start),
            after: action(end),
            filtered: (filters(start) || filters(end))
                && ![start, end].map(action).contains(&Action::Reject),
        }
    }

    fn check(&self, held: &KernelState, owners: &Owners) -> Result<(), String> {
        let Self { address, client, before, after, filtered, is_outsider } = self;
        let now = held.action(*address, *client, &own());
        let says = |what: &str| Err(format!("{client:?} -> {address} {what}: {now:?}"));
        let stays = before.is_forward() && after.is_forward();
        if stays && !now.is_forward() {
            return says("is not served for a while");
        }
        let refused = !before.is_forward() && !after.is_forward();
        if refused && now.is_forward() {
            // An address may be taken while its endpoints go; a filter is never to be passed.
            return if *filtered { says("gets past a filter") } else { Ok(()) };
        }
        for backend in now.backends() {
            let sides = [before.translates(backend), after.translates(backend)];
            if sides == [None, None] && !owners.admit(address, backend, stays && *is_outsider) {
                return says("gets where it should not");
            }
            let agreed = sides.into_iter().flatten().all(|translates| translates);
            if agreed && sides != [None, None] && now.translates(backend) == Some(false) {
                return says("keeps a source that is to be translated");
            }
        }
        Ok(())
    }
}

/// The Services of each front end and pool, where front ends lead, and the endpoints of each Service.
#[derive(Default)]
struct Owners {
    services: BTreeMap<VirtualAddress, BTreeSet<ServiceKey>>,
    pools: BTreeMap<VirtualAddress, BTreeSet<VirtualAddress>>,
    targets: BTreeMap<VirtualAddress, Vec<[Target; 2]>>,
    endpoints: BTreeMap<ServiceKey, BTreeSet<SocketAddr>>,
}

impl Owners {
    /// Adds what Services have at one time.
    fn note(&mut self, desired: &DesiredState) {
        for (key, program) in desired.services() {
            for frontend in &*program.frontends {
                let pools: BTreeSet<_> = frontend.places().collect();
                for address in pools.iter().copied().chain([frontend.address]) {
                    self.services.entry(address).or_default().insert(key.clone());
                }
                self.pools.entry(frontend.address).or_default().extend(pools);
                let targets = self.targets.entry(frontend.address).or_default();
                targets.push(frontend.targets());
                targets.dedup();
            }
            let backends = program.pools.iter().flat_map(|pool| pool.backends.iter());
            let sockets = backends.map(|backend| SocketAddr::new(backend.address, backend.port));
            self.endpoints.entry(key.clone()).or_default().extend(sockets);
        }
    }

    /// Whether an address may lead to an endpoint for a while: a front end that comes, goes, changes
    /// hands or is led to another pool may lead to other endpoints of its Service than it does before
    /// and after. One that stays may not: its policy holds.
    fn admit(&self, address: &VirtualAddress, endpoint: SocketAddr, stays: bool) -> bool {
        let node_port = VirtualAddress::node_port(address.family(), address.port, address.protocol);
        let frontends = [*address, node_port];
        let pools = frontends.iter().filter_map(|frontend| self.pools.get(frontend)).flatten();
        let addresses = pools.chain(&frontends);
        let keys: BTreeSet<_> =
            addresses.filter_map(|address| self.services.get(address)).flatten().collect();
        let of_service = |key| self.endpoints.get(key).is_some_and(|all| all.contains(&endpoint));
        let is_led_elsewhere = |frontend| self.targets.get(frontend).is_some_and(|it| it.len() > 1);
        let changes = keys.len() > 1 || !stays || frontends.iter().any(is_led_elsewhere);
        changes && keys.into_iter().any(of_service)
    }
}

/// Carries out a plan piece by piece, as the kernel gets it.
fn replay(
    start: &KernelState,
    operations: &[Operation],
    mut look: impl FnMut(&KernelState, &[Operation]) -> Result<(), String>,
) -> Result<KernelState, String> {
    let mut kernel = ModelKernel { state: start.clone(), ..ModelKernel::default() };
    let mut done = 0;
    for run in runs(operations) {
        let size = if matches!(run, [Operation::Filter(_), ..]) { run.len() } else { 1 };
        for step in run.chunks(size) {
            let failed = kernel.apply(step).into_iter().find_map(Result::err);
            if let Some(failure) = failed {
                return Err(format!("{failure}: {step:?}"));
            }
            done += step.len();
            look(&kernel.state, &operations[..done])?;
        }
    }
    Ok(kernel.state)
}

fn lines(operations: &[Operation]) -> String {
    operations.iter().map(|operation| format!("\n  {operation}")).collect()
}

/// An agent that has looked after these objects.
fn settled(
    settings: &Settings,
    objects: &Objects,
    kernel: ModelKernel,
) -> Result<(ModelAgent, Vec<Operation>), TestCaseError> {
    let mut agent = ModelAgent::new(settings, kernel);
    for event in objects.listed() {
        agent.deliver(event);
    }
    let operations = agent.settle().map_err(TestCaseError::fail)?;
    Ok((agent, operations))
}

/// Returns every client at every address.
fn connections(desired: &DesiredState) -> Vec<(VirtualAddress, Client)> {
    let clients = |address: VirtualAddress| {
        let clients = SOURCES.iter().filter_map(move |it| client(desired, it, address.family()));
        clients.map(move |client| (address, client))
    };
    destinations_and_ports().into_iter().flat_map(clients).collect()
}

/// Checks that the operations lead from one state to the other, and what connections meet meanwhile.
fn replay_for(
    connections: Vec<(VirtualAddress, Client)>,
    [start, end]: [&KernelState; 2],
    operations: &[Operation],
    owners: &Owners,
) -> Result<(), TestCaseError> {
    // A client that becomes a pod meanwhile is another client.
    let lookups: Vec<_> = connections
        .into_iter()
        .filter(|(_, client)| {
            let class = |held: &KernelState| (held.is_pod(*client), held.is_insider(*client));
            class(start) == class(end)
        })
        .map(|(address, client)| Lookup::new(address, client, start, end))
        .collect();
    let replayed = replay(start, operations, |held, done| {
        lookups
            .iter()
            .try_for_each(|it| it.check(held, owners))
            .map_err(|error| format!("{error}\nafter{}\nof{}", lines(done), lines(operations)))
    });
    prop_assert_eq!(&replayed.map_err(TestCaseError::fail)?, end);
    Ok(())
}

/// Checks the plan for changes of these objects.
fn check_changes(
    settings: &Settings,
    objects: &Objects,
    changes: Vec<Event>,
) -> Result<(), TestCaseError> {
    let (mut agent, _) = settled(settings, objects, ModelKernel::default())?;
    let start = agent.kernel.state.clone();
    let connections = connections(agent.engine.desired());
    let mut owners = Owners::default();
    owners.note(agent.engine.desired());
    for event in changes {
        agent.deliver(event);
    }
    let operations = agent.settle().map_err(TestCaseError::fail)?;
    owners.note(agent.engine.desired());
    replay_for(connections, [&start, &agent.kernel.state], &operations, &owners)
}

#[test]
fn a_node_port_is_refused_only_at_addresses_of_its_time() {
    let port = |cluster_ip| service("a/one").cluster_ip(cluster_ip).port("http", 81);
    let refused: Event = port("10.96.0.10").node_port(80).into();
    // Its route is deleted between two transactions.
    let without: Event = port("10.96.0.12").into();
    let served = service("b/one").cluster_ip("10.96.0.11").port("http", 80);
    let served: Event = served.load_balancer_ip("192.0.2.1").local_external().into();
    let endpoints: Event = slice("b/one-1").port("http", 8080).ready("10.244.1.5", "n1").into();
    let node_at = |ip| Event::from(node("n1").internal_ip(ip));
    let check = |before: [Event; 2], changes: [Event; 2]| {
        let objects: Vec<_> = [&served, &endpoints].into_iter().chain(&before).cloned().collect();
        let settings = Settings::for_node("n1");
        check_changes(&settings, &Objects::after(&objects), changes.into()).unwrap();
    };
    let [elsewhere, here] = ["192.0.2.7", "192.0.2.1"].map(node_at);
    check([refused.clone(), elsewhere.clone()], [without.clone(), here.clone()]);
    check([without, here], [refused, elsewhere]);
}

#[test]
fn a_draining_front_end_refuses_nothing_of_another_that_matches_the_same_packets() {
    let port = |name, number| service("a/one").cluster_ip("10.96.0.10").port(name, number);
    let own_address = port("http", 80).load_balancer_ip("192.0.2.1");
    let others: [Event; 2] = [
        own_address.clone().source_range("198.51.100.0/24").into(),
        own_address.local_external().into(),
    ];
    let node_port: Event = port("admin", 81).node_port(80).into();
    let ports = slice("a/one-1").port("http", 8080).port("admin", 8080);
    let endpoints: Event = ports.ready("10.244.1.5", "n1").into();
    let here: Event = node("n1").internal_ip("192.0.2.1").into();
    for other in others {
        for (before, after) in [(&node_port, &other), (&other, &node_port)] {
            let objects = Objects::after(&[here.clone(), endpoints.clone(), before.clone()]);
            check_changes(&Settings::for_node("n1"), &objects, vec![after.clone()]).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn no_prefix_of_a_plan_cuts_off_or_exposes_traffic(
        settings in settings(),
        events_before in events(1..25),
        changes in events(1..5),
    ) {
        check_changes(&settings, &Objects::after(&events_before), changes)?;
    }

    #[test]
    fn no_prefix_of_a_plan_cuts_off_traffic_when_the_carrier_changes(
        settings in settings(),
        carry in carry(),
        events in events(1..25),
    ) {
        let objects = Objects::after(&events);
        let (before, _) = settled(&settings, &objects, ModelKernel::default())?;
        let start = before.kernel.state.clone();
        let connections = connections(before.engine.desired());
        let mut owners = Owners::default();
        owners.note(before.engine.desired());
        let settings = Settings { carry, ..settings };
        let (after, operations) = settled(&settings, &objects, before.kernel)?;
        owners.note(after.engine.desired());
        replay_for(connections, [&start, &after.kernel.state], &operations, &owners)?;
    }

    #[test]
    fn the_kernel_does_what_explain_says(settings in settings(), events in events(1..30)) {
        let (agent, _) = settled(&settings, &Objects::after(&events), ModelKernel::default())?;
        let desired = agent.engine.desired();
        // The kernel has no address that the agent has not been told of.
        let own = own().into_iter().filter(|ip| desired.context().is_own(*ip));
        let own: Vec<_> = own.collect();
        for address in destinations_and_ports() {
            for source in SOURCES {
                let Some(client) = client(desired, source, address.family()) else { continue };
                let said = explain(desired, address, source.parse().unwrap());
                let done = agent.kernel.state.action(address, client, &own);
                prop_assert_eq!(Action::from(&said), done, "{} -> {}: {:?}", source, address, said);
            }
        }
    }
}
