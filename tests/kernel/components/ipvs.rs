//! Virtual and real servers through generic netlink.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use ServerOperation::{Add, AddReal, Delete, DeleteReal, Set, SetReal};
use kube_ipvs::kernel::Kernel;
use kube_ipvs::kernel::ipvs::Ipvs;
use kube_ipvs_core::model::{Backend, Backends, Pool, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::{FailureKind, ServerOperation};
use netlink_ipvs::KernelError;
use netlink_ipvs::ipvs::{
    Connections, Destination, Forwarding, IpvsCommand, IpvsSocket, Persistence, ServiceId,
    VirtualService,
};
use netlink_sys::constants::{
    NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{Component, alone, component, output, run, unload};

pub(crate) fn components() -> Vec<Component> {
    vec![
        // As long as any namespace uses the module, it cannot be unloaded.
        alone(
            "a_module_that_was_loaded_anew_is_found_again",
            a_module_that_was_loaded_anew_is_found_again,
        ),
        component(
            "operations_print_as_ipvsadm_saves_them_and_read_back",
            operations_print_as_ipvsadm_saves_them_and_read_back,
        ),
        component("servers_are_changed_and_removed", servers_are_changed_and_removed),
        component("errors_of_ipvs_are_explained", errors_of_ipvs_are_explained),
        component(
            "one_failure_among_thousands_stops_no_other",
            one_failure_among_thousands_stops_no_other,
        ),
        component("foreign_virtual_servers_are_left_out", foreign_virtual_servers_are_left_out),
        component("ipvsadm_shows_what_the_crate_writes", ipvsadm_shows_what_the_crate_writes),
        component("connections_are_counted", connections_are_counted),
        component("timeouts_are_set_and_others_kept", timeouts_are_set_and_others_kept),
        component("forged_kernel_messages_are_ignored", forged_kernel_messages_are_ignored),
        component(
            "without_the_capability_the_remedy_is_named",
            without_the_capability_the_remedy_is_named,
        ),
    ]
}

/// IPVS of a namespace whose loopback is up; IPVS takes no real server before.
fn open() -> Ipvs {
    run("ip link set lo up");
    Ipvs::open().unwrap()
}

fn address(text: &str) -> VirtualAddress {
    text.parse().unwrap()
}

fn server(text: &str, scheduler: Scheduler, affinity_seconds: Option<u32>) -> VirtualServer {
    VirtualServer { affinity_seconds, ..VirtualServer::new(address(text), scheduler) }
}

fn backend(text: &str, weight: u32) -> Backend {
    let VirtualAddress { ip, port, .. } = address(text);
    Backend { address: ip, port, weight, local: false }
}

/// Every kind of virtual server, each with two real servers.
fn sample() -> Vec<Pool> {
    let v4 = |weight| [backend("10.244.1.7:8080", 1), backend("10.244.2.9:8081", weight)];
    let v6 = |weight| [backend("[fd00::7]:8080", 1), backend("[fd00::9]:8081", weight)];
    [
        (server("10.96.0.1:80", Scheduler::Rr, None), v4(1)),
        (server("10.96.0.1:80/udp", Scheduler::Wrr, Some(10_800)), v4(100)),
        (server("10.96.0.1:80/sctp", Scheduler::Lc, None), v4(0)),
        (server("10.96.0.2:80", Scheduler::Mh, None), v4(1)),
        (server("10.96.0.3:443", Scheduler::Mh, Some(60)), v4(i32::MAX as u32)),
        (server("10.96.0.4:443", Scheduler::Sh, None), v4(1)),
        (server("[fd00:10:96::1]:80", Scheduler::Rr, None), v6(1)),
        (server("[fd00:10:96::1]:80/udp", Scheduler::Wlc, Some(1)), v6(7)),
        (server("[fd00:10:96::1]:80/sctp", Scheduler::Sed, Some(86_400)), v6(0)),
        (server("[fd00:10:96::2]:80", Scheduler::Mh, Some(360)), v6(1)),
    ]
    .map(|(server, backends)| Pool { backends: Backends::from_iter(backends), ..server.into() })
    .into()
}

fn additions(pools: &[Pool]) -> Vec<ServerOperation> {
    let pool = |pool: &Pool| {
        let address = pool.server.address;
        let real = pool.backends.sorted().into_iter().map(move |real| AddReal(address, real, 0));
        std::iter::once(Add(pool.server)).chain(real)
    };
    pools.iter().flat_map(pool).collect()
}

fn applied(ipvs: &mut Ipvs, operations: &[ServerOperation]) {
    let outcomes = ipvs.apply(operations.iter().copied());
    assert_eq!(outcomes.len(), operations.len());
    for (operation, outcome) in operations.iter().zip(outcomes) {
        assert_eq!(outcome, Ok(()), "{operation}");
    }
}

fn pools_at(ipvs: &mut Ipvs, addresses: &[VirtualAddress]) -> Vec<Pool> {
    addresses.iter().filter_map(|address| ipvs.observe_server(address).unwrap()).collect()
}

fn kind(ipvs: &mut Ipvs, operation: ServerOperation) -> Option<FailureKind> {
    let failure = ipvs.apply([operation]).remove(0).err()?;
    Some(failure.kind)
}

fn saved() -> BTreeSet<String> {
    output("ipvsadm -Sn").lines().map(|line| line.trim_end().to_owned()).collect()
}

fn lines(operations: &[ServerOperation]) -> BTreeSet<String> {
    operations.iter().map(ToString::to_string).collect()
}

fn sorted(mut pools: Vec<Pool>) -> Vec<Pool> {
    pools.sort_by_key(|pool| pool.server);
    pools
}

fn operations_print_as_ipvsadm_saves_them_and_read_back() {
    let ipvs = &mut open();
    let pools = sample();
    applied(ipvs, &additions(&pools));
    assert_eq!(saved(), lines(&additions(&pools)));
    assert_eq!(sorted(ipvs.observe().unwrap().pools), sorted(pools.clone()));

    // What prints as `ipvsadm` reads it may be restored by it.
    run("ipvsadm -C");
    for line in additions(&pools) {
        run(&format!("ipvsadm {line}"));
    }
    assert_eq!(sorted(ipvs.observe().unwrap().pools), sorted(pools));
}

fn servers_are_changed_and_removed() {
    let ipvs = &mut open();
    let mut pools = sample();
    applied(ipvs, &additions(&pools));
    let mut operations = Vec::new();
    for pool in &mut pools {
        let affinity = match pool.server.affinity_seconds {
            Some(_) => None,
            None => Some(30),
        };
        let text = pool.server.address.to_string();
        let scheduler =
            if pool.server.scheduler == Scheduler::Mh { Scheduler::Rr } else { Scheduler::Mh };
        pool.server = server(&text, scheduler, affinity);
        operations.push(Set(pool.server));
        let [mut kept, removed] = pool.backends.sorted().try_into().unwrap();
        kept.weight = 42;
        operations.push(SetReal(pool.server.address, kept, 0));
        operations.push(DeleteReal(pool.server.address, removed));
        pool.backends = Backends::from_iter([kept]);
    }
    applied(ipvs, &operations);
    assert_eq!(saved(), lines(&additions(&pools)));
    let addresses: Vec<_> = pools.iter().map(|pool| pool.server.address).collect();
    assert_eq!(pools_at(ipvs, &addresses), pools);

    let removals: Vec<_> = addresses.into_iter().map(Delete).collect();
    applied(ipvs, &removals);
    assert_eq!(saved(), BTreeSet::new());
    // Gone already is as good as removed.
    applied(ipvs, &removals);
}

fn errors_of_ipvs_are_explained() {
    let ipvs = &mut open();
    let here = server("10.96.0.1:80", Scheduler::Rr, None);
    let absent = server("10.96.0.9:80", Scheduler::Rr, None);
    let unknown = server("10.96.0.9:80", Scheduler::Unknown, None);
    let (real, other) = (backend("10.244.1.7:8080", 1), backend("10.244.1.8:8080", 1));
    applied(ipvs, &[Add(here), AddReal(here.address, real, 0)]);
    let expected = [
        (Add(here), Some(FailureKind::Drift)),
        (AddReal(here.address, real, 0), Some(FailureKind::Drift)),
        (Set(absent), Some(FailureKind::Drift)),
        (AddReal(absent.address, real, 0), Some(FailureKind::Drift)),
        (SetReal(absent.address, real, 0), Some(FailureKind::Drift)),
        (SetReal(here.address, other, 0), Some(FailureKind::Drift)),
        (DeleteReal(here.address, other), None),
        (DeleteReal(absent.address, real), None),
        (Delete(absent.address), None),
        (Add(unknown), Some(FailureKind::NoScheduler)),
        (
            Set(VirtualServer { scheduler: Scheduler::Unknown, ..here }),
            Some(FailureKind::NoScheduler),
        ),
        (AddReal(here.address, backend("224.0.0.1:80", 1), 0), Some(FailureKind::Refused)),
        (AddReal(here.address, backend("[fd00::7]:80", 1), 0), Some(FailureKind::Refused)),
    ];
    for (operation, expected) in expected {
        assert_eq!(kind(ipvs, operation), expected, "{operation}");
    }
    assert_eq!(saved(), lines(&[Add(here), AddReal(here.address, real, 0)]));
}

fn one_failure_among_thousands_stops_no_other() {
    let ipvs = &mut open();
    let vs = server("10.96.0.1:80", Scheduler::Rr, None);
    let real = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let address = Ipv4Addr::new(10, 244, high, low).into();
        Backend { address, port: 80, weight: 1, local: false }
    };
    applied(ipvs, &[Add(vs)]);
    let some: Vec<_> = (0..2000).step_by(7).map(|n| AddReal(vs.address, real(n), 0)).collect();
    applied(ipvs, &some);
    let all: Vec<_> = (0..2000).map(|n| AddReal(vs.address, real(n), 0)).collect();
    for (n, outcome) in ipvs.apply(all.iter().copied()).into_iter().enumerate() {
        let expected = if n % 7 == 0 { Err(FailureKind::Drift) } else { Ok(()) };
        assert_eq!(outcome.map_err(|failure| failure.kind), expected, "{n}");
    }
    // A whole batch of failures fits the receive queue.
    let failures = ipvs.apply(all);
    let drifts = failures.iter().flat_map(|outcome| outcome.as_ref().err());
    assert_eq!(drifts.filter(|failure| failure.kind == FailureKind::Drift).count(), 2000);
    assert_eq!(ipvs.observe().unwrap().pools[0].backends.len(), 2000);
}

fn foreign_virtual_servers_are_left_out() {
    let ipvs = &mut open();
    run("ipvsadm -A -f 7 -s rr");
    run("ipvsadm -a -f 7 -r 10.244.1.7:0 -m");
    run("ipvsadm -A -t 10.96.0.1:80 -s rr");
    run("ipvsadm -a -t 10.96.0.1:80 -r 10.244.1.7:80 -m");
    run("ipvsadm -a -t 10.96.0.1:80 -r 10.244.1.8:80 -g");
    run("ipvsadm -A -t 10.96.0.2:80 -s rr");
    let observed = ipvs.observe().unwrap().pools;
    assert_eq!(
        observed.iter().map(|pool| pool.server).collect::<Vec<_>>(),
        [server("10.96.0.2:80", Scheduler::Rr, None)]
    );
    let both = [address("10.96.0.1:80"), address("10.96.0.2:80"), address("10.96.0.3:80")];
    assert_eq!(pools_at(ipvs, &both), observed);
}

/// `netlink-ipvs` by itself, with what the agent does not use.
fn ipvsadm_shows_what_the_crate_writes() {
    run("ip link set lo up");
    let mut ipvs = IpvsSocket::open().unwrap();
    let id = |ip: &str| ServiceId { ip: ip.parse().unwrap(), port: 80, protocol: ServiceId::TCP };
    let persistence = |prefix| Some(Persistence { seconds: 60, prefix });
    let v4 = VirtualService {
        persistence: persistence(24),
        ..VirtualService::new(id("10.96.0.1"), "wlc")
    };
    let v6 = VirtualService {
        persistence: persistence(64),
        flags: VirtualService::SCHED_1 | VirtualService::SCHED_2,
        ..VirtualService::new(id("fd00::1"), "mh")
    };
    let routed = Destination {
        forwarding: Forwarding::Route,
        weight: 70_000,
        upper_threshold: 9,
        lower_threshold: 3,
        ..Destination::new([10, 244, 1, 7].into(), 80)
    };
    let masqueraded = Destination::new("fd00::7".parse().unwrap(), 8080);
    let commands = [
        IpvsCommand::AddService(v4.clone()),
        IpvsCommand::AddDestination(v4.id, routed),
        IpvsCommand::AddService(v6.clone()),
        IpvsCommand::AddDestination(v6.id, masqueraded),
    ];
    assert_eq!(ipvs.apply(&commands).unwrap(), vec![Some(Ok(())); 4]);
    assert_eq!(
        saved(),
        [
            "-A -t 10.96.0.1:80 -s wlc -p 60 -M 255.255.255.0",
            "-a -t 10.96.0.1:80 -r 10.244.1.7:80 -g -w 70000",
            "-A -t [fd00::1]:80 -s mh -p 60 -M 64 -b mh-fallback,mh-port",
            "-a -t [fd00::1]:80 -r [fd00::7]:8080 -m -w 1",
        ]
        .map(str::to_owned)
        .into()
    );
    let mut services = ipvs.services().unwrap();
    services.sort_by_key(|service| service.id);
    assert_eq!(services, [v4.clone(), v6.clone()]);
    let none = Connections::default();
    assert_eq!(ipvs.destinations(&v4.id).unwrap(), [(routed, none)]);
    assert_eq!(ipvs.destinations(&v6.id).unwrap(), [(masqueraded, none)]);
    let gone = [IpvsCommand::DeleteService(v4.id), IpvsCommand::DeleteService(v4.id)];
    let [Some(Ok(())), Some(Err(error))] = &ipvs.apply(&gone).unwrap()[..] else { panic!() };
    assert_eq!(error.errno, Errno::SRCH);
    assert_eq!(ipvs.service(&v4.id).unwrap(), None);
}

fn connections_are_counted() {
    let ipvs = &mut open();
    run("ip addr add 10.96.0.1/32 dev lo");
    run("ip addr add 10.244.1.7/32 dev lo");
    let vs = server("10.96.0.1:80", Scheduler::Rr, Some(60));
    let real = backend("10.244.1.7:8080", 1);
    applied(ipvs, &[Add(vs), AddReal(vs.address, real, 0)]);
    let listener = TcpListener::bind("10.244.1.7:8080").unwrap();
    let client = TcpStream::connect("10.96.0.1:80").unwrap();
    let _accepted = listener.accept().unwrap();
    let [(at, counts, _)] = ipvs.counters(&vs.address).unwrap().try_into().unwrap();
    assert_eq!((at.ip(), at.port()), (real.address, 8080));
    assert_eq!((counts.active, counts.inactive, counts.persistent), (1, 0, 1));
    drop(client);
    assert_eq!(ipvs.counters(&address("10.96.0.9:80")).unwrap(), []);
}

fn timeouts_are_set_and_others_kept() {
    let ipvs = &mut open();
    ipvs.socket.set_timeouts(Some(Duration::from_secs(86_400)), None, None).unwrap();
    ipvs.socket.set_timeouts(None, Some(Duration::from_millis(900)), None).unwrap();
    assert_eq!(output("ipvsadm -l --timeout"), "Timeout (tcp tcpfin udp): 86400 120 300\n");
    let info = ipvs.socket.info().unwrap();
    assert_eq!(info.version, 0x01_02_01);
}

fn without_the_capability_the_remedy_is_named() {
    let ipvs = &mut open();
    let mut sets = capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, sets).unwrap();
    let error = Ipvs::open().unwrap_err();
    assert!(matches!(error, KernelError::NotPermitted(_)), "{error}");
    let add = Add(server("10.96.0.1:80", Scheduler::Rr, None));
    assert_eq!(kind(ipvs, add), Some(FailureKind::Refused));
    assert!(matches!(ipvs.observe(), Err(KernelError::NotPermitted(_))));
}

fn a_module_that_was_loaded_anew_is_found_again() {
    let ipvs = &mut open();
    let without_module = || {
        unload("ip_vs");
        assert!(!Path::new("/sys/module/ip_vs").exists(), "a part of this kernel");
    };
    without_module();
    let pools = sample();
    applied(ipvs, &additions(&pools));
    assert_eq!(saved(), lines(&additions(&pools)));
    run("ipvsadm -C");
    without_module();
    assert_eq!(ipvs.observe().unwrap().pools, []);
    without_module();
    assert_eq!(pools_at(ipvs, &[address("10.96.0.1:80")]), []);
}

/// Of any process, also one of root: what it sends to our sockets does not come to them.
fn forged_kernel_messages_are_ignored() {
    run("ip link set lo up");
    let _kernel = Kernel::open().unwrap();
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let mut refused = BTreeSet::new();
    // The columns are an address, the protocol and the port.
    for line in sockets.lines().skip(1) {
        let mut numbers = line.split_whitespace().skip(1).map(|it| it.parse::<u32>().unwrap());
        let (protocol, port) = (numbers.next().unwrap(), numbers.next().unwrap());
        // The kernel's own.
        if port == 0 {
            continue;
        }
        let protocol = protocol as isize;
        let mut stranger = Socket::new(protocol).unwrap();
        stranger.bind_auto().unwrap();
        let sent = stranger.send_to(&[0; 64], &SocketAddr::new(port, 0), 0);
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{line}");
        refused.insert(protocol);
    }
    let all = [NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER, NETLINK_GENERIC];
    assert_eq!(refused, all.into());
}
