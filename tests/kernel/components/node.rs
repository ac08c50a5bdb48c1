//! The node's addresses, connection tracking and the doctor.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use kube_ipvs::kernel::conntrack::Conntrack;
use kube_ipvs::kernel::doctor::{self, Report, Subject, Verdict};
use kube_ipvs::kernel::sysctl::{State, Sysctls};
use kube_ipvs::model::{Family, Scheduler};
use kube_ipvs::plan::FlowOperation;
use kube_ipvs::source::addresses;

use super::{Component, component, output, run};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("the_follower_tells_each_change_once", the_follower_tells_each_change_once),
        component(
            "exactly_the_matching_udp_entries_are_deleted",
            exactly_the_matching_udp_entries_are_deleted,
        ),
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

fn the_follower_tells_each_change_once() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip link add kube-ipvs type dummy");
    run("ip addr add 10.96.0.1/32 dev kube-ipvs");
    run("ip addr add 192.0.2.1/24 dev uplink");
    let (sender, receiver) = mpsc::channel();
    let thread = addresses::follow(move |addresses| {
        let last = addresses.is_empty();
        sender.send(addresses).unwrap();
        if last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let next = || receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(next(), ips(&["192.0.2.1"]));
    run("ip addr add 192.0.2.9/24 dev uplink");
    assert_eq!(next(), ips(&["192.0.2.1", "192.0.2.9"]));
    run("ip addr add 10.96.0.2/32 dev kube-ipvs");
    run("ip link set uplink up");
    run("ip -6 addr add fd00:1::1/64 dev uplink");
    assert_eq!(next(), ips(&["192.0.2.1", "192.0.2.9", "fd00:1::1"]));
    run("ip addr del 192.0.2.9/24 dev uplink");
    assert_eq!(next(), ips(&["192.0.2.1", "fd00:1::1"]));
    for n in 0..50 {
        run(&format!("ip addr add 198.51.100.{n}/32 dev uplink"));
    }
    let mut seen = next();
    while seen.len() < 52 {
        seen = next();
    }
    run("ip addr flush dev uplink");
    while !seen.is_empty() {
        seen = next();
    }
    thread.join().unwrap();
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
    };
    assert_eq!(conntrack.delete(&[]).unwrap(), 0);
    let gone = [matched("10.96.0.10:53", Some("10.244.1.5:5353"))];
    assert_eq!(conntrack.delete(&gone).unwrap(), 1);
    assert_eq!(count(), 6);
    assert_eq!(conntrack.delete(&gone).unwrap(), 0);
    let gone = [matched("[fd00:96::a]:53", Some("[fd00:244::5]:5353"))];
    assert_eq!(conntrack.delete(&gone).unwrap(), 1);
    let left = output("conntrack -L");
    assert!(left.contains("src=10.244.1.10 dst=10.96.0.10") && left.contains("tcp"), "{left}");
    // Whoever answers, and more destinations than are worth a question each.
    let mut all: Vec<FlowOperation> =
        (0..20).map(|n| matched(&format!("10.99.0.{n}:53"), None)).collect();
    all.push(matched("10.96.0.10:53", None));
    all.push(matched("10.96.0.11:53", None));
    all.push(matched("[fd00:96::a]:53", None));
    assert_eq!(conntrack.delete(&all).unwrap(), 3);
    assert_eq!(count(), 2);
}

fn subject() -> Subject {
    Subject {
        schedulers: vec![Scheduler::Rr],
        service_ranges: vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/112".parse().unwrap()],
        api_servers: ips(&["192.0.2.10"]),
    }
}

fn verdict(report: &Report, name: &str) -> Verdict {
    report.checks.iter().find(|check| check.name == name).unwrap().verdict
}

fn a_bare_namespace_is_healthy_once_its_settings_are_made() {
    let before = doctor::run(&subject());
    println!("{before}");
    assert_eq!(verdict(&before, "forwarding"), Verdict::Warn);
    assert_eq!(verdict(&before, "ipvs settings"), Verdict::Warn);
    assert_eq!(verdict(&before, "ipvs"), Verdict::Ok);
    let ensured = Sysctls::default().ensure(&Family::BOTH);
    assert!(ensured.failed.is_empty(), "{:?}", ensured.failed);
    for change in &ensured.changed {
        println!("{change}");
    }
    assert!(Sysctls::default().ensure(&Family::BOTH).changed.is_empty());
    let states = Sysctls::default().check(&Family::BOTH);
    assert!(states.iter().all(|(_, s)| matches!(s, State::Right | State::Missing)));
    let after = doctor::run(&subject());
    println!("{after}");
    for check in ["capabilities", "ipvs", "ipvs settings", "forwarding", "firewall"] {
        assert_eq!(verdict(&after, check), Verdict::Ok, "{check}");
    }
    assert_ne!(after.worst(), Verdict::Fail);
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
    run("ip link add cni0 type bridge");
    let report = doctor::run(&subject());
    println!("{report}");
    assert_eq!(verdict(&report, "firewall"), Verdict::Fail);
    let firewall = report.checks.iter().find(|c| c.name == "firewall").unwrap();
    assert!(firewall.found.contains("ip filter FORWARD (policy drop, 0 rules)"));
    assert!(firewall.found.contains("inet site input (policy drop, 1 rules)"));
    assert!(!firewall.found.contains("kube-ipvs"));
    // What it says to do is what nft takes.
    for line in firewall.mend.as_deref().unwrap().lines().filter(|l| l.starts_with("nft ")) {
        run(line);
    }
    assert_eq!(verdict(&report, "kube-proxy device"), Verdict::Warn);
    assert_eq!(verdict(&report, "kube-proxy rules"), Verdict::Fail);
    assert_ne!(verdict(&report, "kernel"), Verdict::Fail);
}
