//! The node's addresses, connection tracking and the doctor.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kube_ipvs::doctor::{self, CheckVerdict, Finding, Report, Subject};
use kube_ipvs::kernel::conntrack::Conntrack;
use kube_ipvs::kernel::listening::listening;
use kube_ipvs::kernel::route::{self, Routes, Touched};
use kube_ipvs::kernel::sysctl::{self, Sysctl, SysctlReport, SysctlState};
use kube_ipvs::source::network;
use kube_ipvs_core::model::{DEVICE, Event, Family, Protocol, Route, Scheduler, VirtualAddress};
use kube_ipvs_core::plan::{Carrier, CountTargets, FlowOperation, RouteOperation};
use netlink_ipvs::{Attributes, Batch, Socket, Subsystem as Netlink};

use super::{Component, component, output, run};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("the_follower_reports_each_change_once", the_follower_reports_each_change_once),
        component(
            "the_follower_reports_foreign_routes_only",
            the_follower_reports_foreign_routes_only,
        ),
        component(
            "the_follower_tells_where_the_node_sends_from",
            the_follower_tells_where_the_node_sends_from,
        ),
        component("listening_sockets_are_known", listening_sockets_are_known),
        component(
            "the_follower_tells_which_links_there_are",
            the_follower_tells_which_links_there_are,
        ),
        component(
            "exactly_the_matching_udp_entries_are_deleted",
            exactly_the_matching_udp_entries_are_deleted,
        ),
        component("running_connections_are_counted", running_connections_are_counted),
        component(
            "a_bare_namespace_is_healthy_once_its_settings_are_made",
            a_bare_namespace_is_healthy_once_its_settings_are_made,
        ),
        component(
            "foreign_firewalls_and_leftovers_are_found",
            foreign_firewalls_and_leftovers_are_found,
        ),
    ]
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Follows, `links` too, until it is told of no address. What [`next`] takes is told one by one, but
/// for source addresses, after whether there is IPv6.
fn follow(links: bool) -> (Receiver<Event>, JoinHandle<()>) {
    let (told, follower) = follow_where(links, |event| !matches!(event, Event::SourceIps(_)));
    assert_eq!(next(&told), Event::Ipv6(true));
    (told, follower)
}

fn follow_where(
    links: bool,
    is_wanted: impl Fn(&Event) -> bool + Send + 'static,
) -> (Receiver<Event>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let follower = network::follow(links, move |event| {
        let is_last = event == Event::Addresses(vec![]);
        if is_wanted(&event) || is_last {
            sender.send(event).unwrap();
        }
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    (receiver, follower.unwrap())
}

fn next(told: &Receiver<Event>) -> Event {
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn the_follower_reports_each_change_once() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip link add kube-ipvs0 type dummy");
    run("ip addr add 10.96.0.1/32 dev kube-ipvs0");
    run("ip addr add 192.0.2.1/32 dev uplink");
    let (told, follower) = follow(false);
    // A device's own routes come and go with its addresses: none of these has any.
    let next = || next(&told);
    let addresses = |texts: &[&str]| Event::Addresses(ips(texts));
    assert_eq!(next(), addresses(&["192.0.2.1"]));
    assert_eq!(next(), Event::Routes(vec![]));
    run("ip addr add 192.0.2.9/32 dev uplink");
    assert_eq!(next(), addresses(&["192.0.2.1", "192.0.2.9"]));
    run("ip addr add 10.96.0.2/32 dev kube-ipvs0");
    run("ip link set uplink up");
    run("ip -6 addr add fd00:1::1/128 dev uplink noprefixroute");
    assert_eq!(next(), addresses(&["192.0.2.1", "192.0.2.9", "fd00:1::1"]));
    run("ip addr del 192.0.2.9/32 dev uplink");
    assert_eq!(next(), addresses(&["192.0.2.1", "fd00:1::1"]));
    for n in 0..50 {
        run(&format!("ip addr add 198.51.100.{n}/32 dev uplink"));
    }
    let count = |event| match event {
        Event::Addresses(all) => all.len(),
        other => panic!("{other:?}"),
    };
    while count(next()) < 52 {}
    run("ip addr flush dev uplink");
    while count(next()) > 0 {}
    follower.join().unwrap();
    assert_eq!(told.try_recv(), Err(TryRecvError::Disconnected));
}

fn the_follower_tells_where_the_node_sends_from() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip link set uplink up");
    run("ip addr add 192.0.2.1/24 dev uplink");
    run("ip -6 addr add fd00:1::1/64 dev uplink nodad");
    let (told, follower) = follow_where(false, |event| matches!(event, Event::SourceIps(_)));
    let sources = |texts: &[&str]| Event::SourceIps(ips(texts));
    assert_eq!(next(&told), sources(&[]), "there is no way to anywhere");
    run("ip route add default via 192.0.2.254");
    assert_eq!(next(&told), sources(&["192.0.2.1"]));
    run("ip -6 route add default via fd00:1::254");
    assert_eq!(next(&told), sources(&["192.0.2.1", "fd00:1::1"]));
    run("ip addr add 192.0.2.9/24 dev uplink");
    run("ip route change default via 192.0.2.254 src 192.0.2.9");
    assert_eq!(next(&told), sources(&["192.0.2.9", "fd00:1::1"]));
    run("ip addr flush dev uplink");
    while next(&told) != Event::Addresses(vec![]) {}
    follower.join().unwrap();
}

/// Processes', and the kernel's own of a tunnel, in this namespace alone.
fn listening_sockets_are_known() {
    run("ip link set lo up");
    run("ip link add tunnel type vxlan id 7 dstport 4790 dev lo");
    run("ip link set tunnel up");
    let _tcp = TcpListener::bind("127.0.0.1:8080").unwrap();
    let _both = TcpListener::bind("[::]:8081").unwrap();
    let _udp = UdpSocket::bind("0.0.0.0:8080").unwrap();
    let found = listening(Socket::open(Netlink::Sockets).ok().as_mut()).unwrap();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "0.0.0.0:4790/udp",
        "0.0.0.0:8080/udp",
        "0.0.0.0:8081/tcp",
        "127.0.0.1:8080/tcp",
        "[::]:8081/tcp",
    ];
    for address in expected {
        assert!(found.iter().any(|it| it == address), "{address} in {found:?}");
    }
    assert!(!found.iter().any(|it| it == "0.0.0.0:8080/tcp"), "{found:?}");
}

fn the_follower_tells_which_links_there_are() {
    run("ip link add uplink type dummy");
    run("ip addr add 192.0.2.1/32 dev uplink");
    let (told, follower) = follow(true);
    let next = || match next(&told) {
        Event::Links(links) => {
            let names = links.iter().map(|link| link.name.as_str());
            names
                .filter(|name| name.starts_with("pod") || *name == DEVICE)
                .collect::<Vec<_>>()
                .join(" ")
        }
        other => format!("{other:?}"),
    };
    assert_eq!([next(), next(), next()], ["Addresses([192.0.2.1])", "Routes([])", ""]);
    run("ip link add pod2 type dummy");
    assert_eq!(next(), "pod2");
    run(&format!("ip link add {DEVICE} type dummy"));
    run("ip link add pod1 type dummy");
    assert_eq!(next(), "pod1 pod2");
    run("ip link set pod1 name pod3");
    assert_eq!(next(), "pod2 pod3");
    run("ip link delete pod2");
    assert_eq!(next(), "pod3");
    run("ip link delete uplink");
    while next() != "Addresses([])" {}
    follower.join().unwrap();
}

fn the_follower_reports_foreign_routes_only() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip link set uplink up");
    run("ip addr add 192.0.2.1/24 dev uplink");
    run("ip -6 addr add fd00:1::1/64 dev uplink nodad");
    let mut ours = Routes::open().unwrap();
    for device in [DEVICE, "kube-ipvs"] {
        run(&format!("ip link add {device} type dummy"));
        run(&format!("ip link set {device} up"));
    }

    let (told, follower) = follow(false);
    let next = || next(&told);
    let routes =
        |texts: &[&str]| Event::Routes(texts.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(next(), Event::Addresses(ips(&["192.0.2.1", "fd00:1::1"])));
    assert_eq!(next(), routes(&["192.0.2.0/24", "fd00:1::/64"]));

    // None of these is told: what is told next is the first change that matters.
    run("ip route add default via 192.0.2.254");
    run("ip -6 route add default via fd00:1::254");
    run("ip route add default via 192.0.2.254 table 100");
    run("ip route add 10.244.1.0/24 dev uplink proto 75");
    run("ip -6 route add fd00:244:1::/64 dev uplink proto 75");
    run("ip route add 10.96.0.0/16 dev kube-ipvs table 100");
    run("ip -6 route add fd00:96::/112 dev kube-ipvs0");
    run("ip route add 10.96.0.1 dev kube-ipvs0");
    run("ip route add 10.99.0.1 dev uplink table local");
    run("ip route add local 10.99.1.0/24 dev lo table 100");
    run("ip route add 169.254.0.0/16 dev uplink");
    run("ip route add multicast 224.0.0.0/4 dev uplink");
    run("ip route add 192.0.2.128/25 via 192.0.2.253");

    run("ip route add 10.244.2.0/24 via 192.0.2.2");
    assert_eq!(next(), routes(&["10.244.2.0/24", "192.0.2.0/24", "fd00:1::/64"]));
    run("ip -6 route add unreachable fd00:244::/56 table 200");
    let all = ["10.244.2.0/24", "192.0.2.0/24", "fd00:1::/64", "fd00:244::/56"];
    assert_eq!(next(), routes(&all));
    run("ip route add blackhole 10.244.3.0/24 table 1000");
    let all = ["10.244.2.0/23", "192.0.2.0/24", "fd00:1::/64", "fd00:244::/56"];
    assert_eq!(next(), routes(&all));

    // Many changes of our own objects are not reported.
    let mut listener = route::listen().unwrap();
    let many: Vec<Route> = (0..5_000u32)
        .map(|n| IpAddr::from((0x0a60_0000 + n).to_be_bytes()))
        .map(|ip| Route { prefix: ip.into(), source: None })
        .collect();
    let add: Vec<_> = many.iter().copied().map(RouteOperation::Add).collect();
    let delete: Vec<_> = many.iter().copied().map(RouteOperation::Delete).collect();
    for operations in [add, delete] {
        let done = ours.apply(&operations);
        assert!(done.iter().all(Result::is_ok), "{:?}", done.iter().find(|it| it.is_err()));
    }
    assert_eq!(route::wait(&mut listener, Some(Duration::ZERO)), Touched::default());

    run("ip route del blackhole 10.244.3.0/24 table 1000");
    let all = ["10.244.2.0/24", "192.0.2.0/24", "fd00:1::/64", "fd00:244::/56"];
    assert_eq!(next(), routes(&all));

    // IPv4 tells nothing of routes that go with their device or their next hop.
    run("ip link add second type dummy");
    fs::write("/proc/sys/net/ipv6/conf/second/disable_ipv6", "1").unwrap();
    run("ip link set second up");
    run("ip nexthop add id 7 via 192.0.2.3 dev uplink");
    for (prefix, by, without) in [
        ("10.245.0.0/16", "dev second", "ip link set second down"),
        ("10.246.0.0/16", "dev uplink src 192.0.2.9", "ip addr del 192.0.2.9/32 dev uplink"),
        ("10.247.0.0/16", "nhid 7", "ip nexthop del id 7"),
    ] {
        if by.contains("src") {
            run("ip addr add 192.0.2.9/32 dev uplink");
            assert_eq!(next(), Event::Addresses(ips(&["192.0.2.1", "192.0.2.9", "fd00:1::1"])));
        }
        run(&format!("ip route add {prefix} {by}"));
        let more = [&all[..1], &[prefix], &all[1..]].concat();
        assert_eq!(next(), routes(&more), "{by}");
        run(without);
        if by.contains("src") {
            assert_eq!(next(), Event::Addresses(ips(&["192.0.2.1", "fd00:1::1"])));
        }
        assert_eq!(next(), routes(&all), "{without}");
    }
    run("ip addr flush dev uplink");
    while next() != Event::Addresses(vec![]) {}
    follower.join().unwrap();
}

/// Enters an entry whose reply comes from `replier`.
pub(super) fn enter(protocol: &str, client: &str, destination: (&str, u16), replier: (&str, u16)) {
    let state = if protocol == "tcp" { "--state ESTABLISHED" } else { "" };
    run(&format!(
        "conntrack -I -p {protocol} -s {client} -d {} --sport 4000 --dport {} \
         --reply-src {} --reply-dst {client} --reply-port-src {} --reply-port-dst 4000 -t 300 {state}",
        destination.0, destination.1, replier.0, replier.1
    ));
}

fn count() -> usize {
    ["ipv4", "ipv6"]
        .map(|family| output(&format!("conntrack -L -f {family}")).lines().count())
        .iter()
        .sum()
}

fn exactly_the_matching_udp_entries_are_deleted() {
    run("ip link set lo up");
    let (dns, web) = (("10.96.0.10", 53), ("10.96.0.11", 53));
    let (a, b) = (("10.244.1.5", 5353), ("10.244.2.5", 5353));
    enter("udp", "10.244.1.9", dns, a);
    enter("udp", "10.244.1.10", dns, b);
    enter("udp", "10.244.1.11", ("10.96.0.10", 54), a);
    enter("udp", "10.244.1.12", web, a);
    enter("tcp", "10.244.1.9", dns, a);
    let (dns6, a6) = (("fd00:96::a", 53), ("fd00:244::5", 5353));
    enter("udp", "fd00:244::9", dns6, a6);
    enter("udp", "fd00:244::10", dns6, ("fd00:244::6", 5353));
    assert_eq!(count(), 7);

    let mut conntrack = Conntrack::open().unwrap();
    let matched = |frontend: &str, backend: Option<&str>| FlowOperation {
        frontend: format!("{frontend}/udp").parse().unwrap(),
        backend: backend.map(|b| b.parse().unwrap()),
        carrier: None,
    };
    assert_eq!(conntrack.delete(&[]).unwrap(), 0);
    let gone = [matched("10.96.0.10:53", Some("10.244.1.5:5353"))];
    let translated = FlowOperation { carrier: Some(Carrier::Tracking), ..gone[0] };
    assert_eq!(conntrack.delete(&[translated]).unwrap(), 0);
    assert_eq!(conntrack.delete(&gone).unwrap(), 1);
    assert_eq!(count(), 6);
    assert_eq!(conntrack.delete(&gone).unwrap(), 0);
    let gone = [matched("[fd00:96::a]:53", Some("[fd00:244::5]:5353"))];
    assert_eq!(conntrack.delete(&gone).unwrap(), 1);
    let left = output("conntrack -L");
    assert!(left.contains("src=10.244.1.10 dst=10.96.0.10") && left.contains("tcp"), "{left}");
    // From any endpoint, and more destinations than are worth a question each.
    let mut all: Vec<FlowOperation> =
        (0..20).map(|n| matched(&format!("10.99.0.{n}:53"), None)).collect();
    all.push(matched("10.96.0.10:53", None));
    all.push(matched("10.96.0.11:53", None));
    all.push(matched("[fd00:96::a]:53", None));
    assert_eq!(conntrack.delete(&all).unwrap(), 3);
    assert_eq!(count(), 2);
}

/// Connections that are tracked in [`running_connections_are_counted`].
const TRACKED: u32 = 20_000;

fn running_connections_are_counted() {
    // Without rules that need it the kernel tracks nothing.
    run("nft add table ip track");
    run("nft add chain ip track c { type nat hook postrouting priority 0; }");
    let address = |text: &str| -> VirtualAddress { text.parse().unwrap() };
    let [balancer, cluster, straight] =
        ["203.0.113.7:80", "10.96.0.10:80", "10.244.1.10:8080"].map(address);
    let backend = SocketAddr::new(straight.ip, straight.port);
    let other: SocketAddr = "10.244.1.11:8080".parse().unwrap();
    // `TCP_CONNTRACK_ESTABLISHED`, `TCP_CONNTRACK_TIME_WAIT`
    let (open, closed) = (3, 7);
    let kinds = [
        (balancer, backend, open),
        (balancer, other, open),
        (cluster, backend, open),
        (cluster, backend, closed),
        (straight, backend, open),
    ];
    let mut socket = Socket::open(Netlink::Netfilter).unwrap();
    let mut batch = Batch::default();
    for first in (0..TRACKED).step_by(500) {
        batch.clear();
        for number in first..first + 500 {
            let (frontend, backend, state) = kinds[number as usize % kinds.len()];
            track(&mut batch, number, frontend, backend, state);
        }
        let answers = socket.transact(&mut batch, 499).unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Some(Ok(())))), "{answers:?}");
    }
    let each = u64::from(TRACKED) / kinds.len() as u64;
    let mut conntrack = Conntrack::open().unwrap();
    let mut count = |targets: &CountTargets| {
        let start = Instant::now();
        let mut counted = conntrack.count(targets).unwrap();
        println!("{TRACKED} connections are read in {:?}", start.elapsed());
        counted.sort_by_key(|running| (running.frontend, running.backend));
        counted.into_iter().map(|it| (it.frontend, it.backend, it.count)).collect::<Vec<_>>()
    };
    let backends = [(Protocol::Tcp, backend)].into_iter().collect();
    assert_eq!(
        count(&CountTargets { backends, ..CountTargets::default() }),
        [(cluster, backend, each), (straight, backend, each), (balancer, backend, each)]
    );
    let frontends = [balancer].into_iter().collect();
    assert_eq!(
        count(&CountTargets { frontends, ..CountTargets::default() }),
        [(balancer, backend, each), (balancer, other, each)]
    );
    let backends = [(Protocol::Udp, backend)].into_iter().collect();
    assert_eq!(count(&CountTargets { backends, ..CountTargets::default() }), []);
}

/// `IPCTNL_MSG_CT_NEW`: the connection of a client of its own.
fn track(batch: &mut Batch, number: u32, frontend: VirtualAddress, backend: SocketAddr, state: u8) {
    let client = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
    let tuple = |message: &mut Attributes<'_>, kind, [from, to]: [(IpAddr, u16); 2]| {
        message.nest(kind, |tuple| {
            tuple.nest(1, |ip| {
                ip.ip(1, from.0);
                ip.ip(2, to.0);
            });
            tuple.nest(2, |ports| {
                ports.bytes(1, &[6]);
                ports.u16_be(2, from.1);
                ports.u16_be(3, to.1);
            });
        });
    };
    // `NLM_F_CREATE | NLM_F_EXCL`
    batch.push(1 << 8, 0x600, |message| {
        message.raw(&[2, 0, 0, 0]);
        tuple(message, 1, [(client, 40_000), (frontend.ip, frontend.port)]);
        tuple(message, 2, [(backend.ip(), backend.port()), (client, 40_000)]);
        message.nest(4, |info| info.nest(1, |tcp| tcp.bytes(1, &[state])));
        message.u32_be(7, 600);
    });
}

fn subject() -> Subject {
    Subject {
        scheduler: Scheduler::Rr,
        service_ranges: vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
        api_servers: ips(&["192.0.2.10"]),
        ..Subject::default()
    }
}

fn finding<'a>(report: &'a Report, name: &str) -> &'a Finding {
    &report.checks.iter().find(|it| it.check == name).unwrap().finding
}

fn verdict(report: &Report, name: &str) -> CheckVerdict {
    finding(report, name).verdict
}

fn a_bare_namespace_is_healthy_once_its_settings_are_made() {
    let before = doctor::run(&subject());
    println!("{before}");
    assert_eq!(verdict(&before, "forwarding"), CheckVerdict::Warn);
    assert_eq!(verdict(&before, "ipvs settings"), CheckVerdict::Warn);
    assert_eq!(verdict(&before, "ipvs"), CheckVerdict::Ok);
    let needed = || Sysctl::needed(&Family::BOTH);
    let reports = sysctl::apply(sysctl::ROOT, needed());
    assert!(reports.iter().all(SysctlReport::is_set), "{reports:?}");
    for report in &reports {
        println!("{report}");
    }
    assert_eq!(sysctl::apply(sysctl::ROOT, needed()), []);
    let mut states = needed().map(|sysctl| sysctl::check(sysctl::ROOT, sysctl).state);
    assert!(states.all(|state| matches!(state, SysctlState::Right | SysctlState::Missing)));
    let after = doctor::run(&subject());
    println!("{after}");
    for check in ["capabilities", "ipvs", "ipvs settings", "forwarding", "firewall"] {
        assert_eq!(verdict(&after, check), CheckVerdict::Ok, "{check}");
    }
    assert_ne!(after.worst(), CheckVerdict::Fail);
}

fn foreign_firewalls_and_leftovers_are_found() {
    run("nft add table ip filter");
    run("nft add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
    run("nft add table inet site");
    run("nft add chain inet site input { type filter hook input priority 0; policy drop; }");
    run("nft add rule inet site input iif lo accept");
    run("nft add table ip kube-ipvs");
    run("nft add chain ip kube-ipvs input { type filter hook input priority 110; policy drop; }");
    run("nft add table ip nat");
    run("nft add chain ip nat KUBE-SERVICES");
    run("nft add chain ip nat KUBE-KUBELET-CANARY");
    run("ip link add kube-ipvs0 type dummy");
    run("ip address add 10.96.0.1/32 dev kube-ipvs0");
    run("ip link add cni0 type bridge");
    let report = doctor::run(&subject());
    println!("{report}");
    assert_eq!(verdict(&report, "firewall"), CheckVerdict::Fail);
    let firewall = finding(&report, "firewall");
    assert!(firewall.found.contains("ip filter FORWARD drops what it does not know"));
    assert!(firewall.found.contains("inet site input drops what it does not know"));
    assert!(!firewall.found.contains("kube-ipvs"));
    // What it says to do is what nft takes.
    for line in firewall.mend.iter().filter(|l| l.starts_with("nft ")) {
        run(line);
    }
    assert_eq!(verdict(&report, "kube-proxy device"), CheckVerdict::Warn);
    assert_eq!(verdict(&report, "kube-proxy rules"), CheckVerdict::Fail);
    assert_ne!(verdict(&report, "kernel"), CheckVerdict::Fail);
}
