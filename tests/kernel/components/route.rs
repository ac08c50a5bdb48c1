//! Routes and the device through rtnetlink.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use kube_ipvs::kernel::route::Routes;
use kube_ipvs::kernel::sysctl::{self, Sysctl, SysctlReport};
use kube_ipvs_core::model::{DEVICE, Family, Route};
use kube_ipvs_core::plan::{FailureKind, RouteOperation};

use super::{Component, component, output, run};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("the_device_is_as_kube_proxy_makes_it", the_device_is_as_kube_proxy_makes_it),
        component("another_device_of_that_name_is_refused", another_device_of_that_name_is_refused),
        component(
            "routes_round_trip_and_are_replaced_and_deleted",
            routes_round_trip_and_are_replaced_and_deleted,
        ),
        component(
            "a_failing_route_does_not_stop_the_others",
            a_failing_route_does_not_stop_the_others,
        ),
        component("ipv4_works_where_ipv6_is_disabled", ipv4_works_where_ipv6_is_disabled),
        component("foreign_routes_stay", foreign_routes_stay),
        component(
            "routes_of_today_replace_those_on_the_device_of_an_earlier_version",
            routes_of_today_replace_those_on_the_device_of_an_earlier_version,
        ),
        component(
            "ten_thousand_routes_of_each_family_are_all_of_use",
            ten_thousand_routes_of_each_family_are_all_of_use,
        ),
    ]
}

fn route(prefix: &str, source: Option<&str>) -> Route {
    let source = source.map(|s| s.parse::<IpAddr>().unwrap());
    Route { prefix: prefix.parse().unwrap(), source }
}

/// A device with addresses that routes may name as their source.
fn add_uplink() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip link set uplink up");
    run("ip addr add 192.0.2.1/24 dev uplink");
    run("ip addr add 192.0.2.2/24 dev uplink");
    run("ip -6 addr add fd00:1::1/64 dev uplink nodad");
    run("ip -6 addr add fd00:1::2/64 dev uplink nodad");
}

fn applied(routes: &mut Routes, operations: &[RouteOperation]) {
    for (operation, outcome) in operations.iter().zip(routes.apply(operations)) {
        assert_eq!(outcome, Ok(()), "{operation}");
    }
}

fn observed(routes: &mut Routes) -> Vec<Route> {
    let mut found = routes.observe().unwrap().routes;
    found.sort();
    found
}

fn sample() -> Vec<Route> {
    let mut sample = vec![
        route("10.96.0.0/12", Some("192.0.2.1")),
        route("203.0.113.7/32", None),
        route("203.0.113.8/32", Some("192.0.2.1")),
        route("fd00:10:96::/112", Some("fd00:1::1")),
        route("2001:db8::7/128", None),
        route("2001:db8::8/128", Some("fd00:1::1")),
    ];
    sample.sort();
    sample
}

fn additions(routes: &[Route]) -> Vec<RouteOperation> {
    routes.iter().copied().map(RouteOperation::Add).collect()
}

fn deletions(routes: &[Route]) -> Vec<RouteOperation> {
    routes.iter().copied().map(RouteOperation::Delete).collect()
}

fn the_device_is_as_kube_proxy_makes_it() {
    let mut routes = Routes::open().unwrap();
    assert!(!routes.observe().unwrap().device);
    applied(&mut routes, &[RouteOperation::CreateDevice]);
    assert!(routes.observe().unwrap().device);
    let shown = output(&format!("ip -d link show dev {DEVICE}"));
    assert!(shown.contains("state DOWN") && shown.contains("dummy"), "{shown}");
    let addresses = output(&format!("ip address show dev {DEVICE}"));
    assert!(!addresses.contains("inet"), "{addresses}");
    // One that is there is adopted as it stands.
    run(&format!("ip address add 10.96.0.1/32 dev {DEVICE}"));
    let before = output(&format!("ip address show dev {DEVICE}"));
    applied(&mut routes, &[RouteOperation::CreateDevice]);
    assert_eq!(output(&format!("ip address show dev {DEVICE}")), before);
    applied(&mut routes, &[RouteOperation::DeleteDevice, RouteOperation::DeleteDevice]);
    assert!(!routes.observe().unwrap().device);
}

fn another_device_of_that_name_is_refused() {
    run(&format!("ip link add {DEVICE} type bridge"));
    let mut routes = Routes::open().unwrap();
    let failure = routes.apply(&[RouteOperation::CreateDevice]).remove(0).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    println!("{failure}");
    applied(&mut routes, &[RouteOperation::DeleteDevice]);
    assert!(!routes.observe().unwrap().device);
    run(&format!("ip link show {DEVICE}"));
}

fn routes_round_trip_and_are_replaced_and_deleted() {
    add_uplink();
    let mut routes = Routes::open().unwrap();
    for _ in 0..2 {
        applied(&mut routes, &additions(&sample()));
        assert_eq!(observed(&mut routes), sample());
    }
    let local = "route get 10.96.3.4";
    assert!(output(&format!("ip {local}")).contains("src 192.0.2.1"), "{local}");
    assert!(output("ip -6 route get fd00:10:96::5").contains("src fd00:1::1"));

    let mut moved = sample();
    for route in &mut moved {
        route.source = Some(match route.family() {
            Family::V4 => "192.0.2.2".parse().unwrap(),
            Family::V6 => "fd00:1::2".parse().unwrap(),
        });
    }
    moved.sort();
    applied(&mut routes, &additions(&moved));
    assert_eq!(observed(&mut routes), moved);

    // A deletion names the route, not its source; and it leaves the others.
    let (some, others) = moved.split_at(3);
    applied(&mut routes, &deletions(some));
    assert_eq!(observed(&mut routes), others);
    applied(&mut routes, &deletions(&sample()));
    assert_eq!(observed(&mut routes), []);
    applied(&mut routes, &deletions(&sample()));

    // The device is for others to see.
    applied(&mut routes, &[RouteOperation::CreateDevice]);
    applied(&mut routes, &additions(&sample()));
    applied(&mut routes, &[RouteOperation::DeleteDevice]);
    assert_eq!(observed(&mut routes), sample());
}

fn a_failing_route_does_not_stop_the_others() {
    add_uplink();
    let mut routes = Routes::open().unwrap();
    let operations = [
        RouteOperation::Add(route("10.0.0.1/32", Some("198.51.100.9"))),
        RouteOperation::Add(route("10.0.0.2/32", None)),
        RouteOperation::Add(route("2001:db8::1/128", Some("fd00:9::9"))),
        RouteOperation::Add(route("2001:db8::2/128", None)),
    ];
    let outcomes = routes.apply(&operations);
    let kinds: Vec<_> = outcomes.iter().map(|o| o.as_ref().err().map(|e| e.kind)).collect();
    let refused = Some(FailureKind::Refused);
    assert_eq!(kinds, [refused, None, refused, None]);
    for failure in outcomes.into_iter().filter_map(Result::err) {
        println!("{failure}");
        assert!(failure.message.contains("has no address"), "{failure}");
    }
    assert_eq!(observed(&mut routes).len(), 2);
}

fn foreign_routes_stay() {
    add_uplink();
    let mut routes = Routes::open().unwrap();
    // The kernel's own local routes, another's on the same device, and what stands where an earlier
    // version had its own.
    run("ip route add local 10.0.0.9/32 dev lo table local proto static");
    run("ip route add unicast 10.0.0.8/32 dev uplink table 7575 proto static");
    run("ip -6 route add local 2001:db8::9/128 dev lo table local proto static");
    run("ip rule add not iif lo lookup 7575 pref 76");
    run("ip rule add not iif lo lookup 7575 pref 75");
    let everything = || {
        let lists = ["route show table all", "-6 route show table all", "rule", "-6 rule"];
        lists.map(|list| output(&format!("ip {list}")))
    };
    let before = everything();
    let same = [
        route("192.0.2.1/32", None),
        route("10.0.0.9/32", None),
        route("fd00:1::1/128", None),
        route("2001:db8::9/128", None),
    ];
    applied(&mut routes, &additions(&same));
    assert_eq!(routes.observe().unwrap().routes.len(), same.len());
    assert_eq!(routes.observe().unwrap().earlier, None);
    for version in ["-4", "-6"] {
        run(&format!("ip {version} rule add not iif lo lookup 7575 pref 75 protocol 75"));
    }
    assert!(routes.observe().unwrap().earlier.is_some());
    for _ in 0..2 {
        routes.delete_earlier().unwrap();
        assert_eq!(routes.observe().unwrap().earlier, None);
    }
    assert_eq!(observed(&mut routes).len(), same.len());
    for _ in 0..2 {
        applied(&mut routes, &deletions(&same));
    }
    assert_eq!(everything(), before);
    assert_eq!(observed(&mut routes), []);
}

fn routes_of_today_replace_those_on_the_device_of_an_earlier_version() {
    add_uplink();
    run("ip link add kube-ipvs type dummy");
    run("ip link set kube-ipvs up");
    run("ip address add 127.0.0.75/32 dev kube-ipvs scope host");
    for (version, ip) in [("-4", "203.0.113.7"), ("-6", "2001:db8::7")] {
        for table in ["local", "7575"] {
            let route = format!("local {ip} dev kube-ipvs table {table} proto 75 metric 75");
            run(&format!("ip {version} route add {route}"));
        }
    }
    let mut routes = Routes::open().unwrap();
    assert!(routes.observe().unwrap().earlier.is_some());
    assert_eq!(observed(&mut routes), []);
    applied(&mut routes, &additions(&sample()));
    let replaced = output("ip route show table local dev kube-ipvs proto 75");
    assert_eq!(replaced, "");
    routes.delete_earlier().unwrap();
    assert_eq!(routes.observe().unwrap().earlier, None);
    assert_eq!(observed(&mut routes), sample());
}

/// Prints what they cost, which docs/scale.md tells.
fn ten_thousand_routes_of_each_family_are_all_of_use() {
    add_uplink();
    let mut routes = Routes::open().unwrap();
    // The default of kernels that count them.
    fs::write("/proc/sys/net/ipv6/route/max_size", "4096").unwrap();
    let reports = sysctl::apply(sysctl::ROOT, Sysctl::needed(&Family::BOTH));
    let is_raised = |it: &SysctlReport| it.is_set() && it.sysctl.path == "net/ipv6/route/max_size";
    assert!(reports.iter().any(is_raised), "{reports:?}");
    for family in Family::BOTH {
        let many: Vec<Route> =
            (0..10_000u32).map(|number| service_address(family, number)).collect();
        let (start, before) = (Instant::now(), kernel_memory());
        applied(&mut routes, &additions(&many));
        let grown = kernel_memory().saturating_sub(before);
        println!("10,000 {family} routes added in {:?}, {grown} kB", start.elapsed());
        let start = Instant::now();
        assert_eq!(observed(&mut routes), many);
        println!("and read back in {:?}", start.elapsed());
        for route in &many {
            let to = SocketAddr::new(route.prefix.addr(), 9);
            let own = SocketAddr::new(route.source.unwrap(), 0);
            let socket = UdpSocket::bind(own).unwrap();
            socket.connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        }
        let grown = kernel_memory().saturating_sub(before);
        println!("used, with {grown} kB");
        let start = Instant::now();
        applied(&mut routes, &deletions(&many));
        println!("and deleted in {:?}", start.elapsed());
        assert_eq!(observed(&mut routes), []);
    }
}

fn service_address(family: Family, number: u32) -> Route {
    let (ip, source) = match family {
        Family::V4 => ((0x0a60_0000 + number).to_be_bytes().into(), "192.0.2.1"),
        Family::V6 => {
            let first: Ipv6Addr = "fd00:96::".parse().unwrap();
            (Ipv6Addr::from(u128::from(first) + u128::from(number)).into(), "fd00:1::1")
        }
    };
    let ip: IpAddr = ip;
    let source = Some(source.parse().unwrap());
    Route { prefix: ip.into(), source }
}

/// What the kernel has taken for itself, in kB.
fn kernel_memory() -> u64 {
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    let of = |name: &str| {
        let line = all.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    of("Slab:") + of("Percpu:")
}

fn ipv4_works_where_ipv6_is_disabled() {
    let switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    if std::path::Path::new(switch).exists() {
        fs::write(switch, "1").unwrap();
    }
    let mut routes = Routes::open().unwrap();
    let ipv4 = route("10.96.0.0/12", None);
    let ipv6 = route("fd00:10:96::/112", None);
    applied(&mut routes, &[RouteOperation::CreateDevice, RouteOperation::Add(ipv4)]);
    let failure = routes.apply(&[RouteOperation::Add(ipv6)]).remove(0).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    let found = routes.observe().unwrap();
    assert_eq!((found.device, found.earlier), (true, None));
    assert_eq!(found.routes, [ipv4]);
    routes.delete_earlier().unwrap();
    applied(&mut routes, &deletions(&[ipv4, ipv6]));
}
