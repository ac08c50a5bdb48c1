//! Calico's policies. Felix polices packets to Services, which pass input and output and not forward, by
//! rules that it writes only while a device `kube-ipvs0` exists.

use std::net::SocketAddr;

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Silent};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Temporary, endpoints_of_both, gateway, service};

/// Calico gives each pod of the node a link and a route of its own.
const LINKS: &str = "\
link set P1 nomaster down
link set P2 nomaster down
link set P1 name cali1 up
link set P2 name cali2 up
route add 10.244.1.11 dev cali1
route add 10.244.1.12 dev cali2
route add fd00:244:1::11 dev cali1
route add fd00:244:1::12 dev cali2
neigh add proxy fd00:244:1::1 dev cali1
neigh add proxy fd00:244:1::12 dev cali1
neigh add proxy fd00:244:1::1 dev cali2
neigh add proxy fd00:244:1::11 dev cali2
";
const BRIDGE: &str = "\
link set cali1 down
link set cali2 down
link set cali1 name P1 master cni0 up
link set cali2 name P2 master cni0 up
link set P1 type bridge_slave hairpin on
link set P2 type bridge_slave hairpin on
";
/// Pods reach each other, and their gateway, by these.
const PROXIES: [&str; 4] = [
    "net.ipv4.conf.cali1.proxy_arp=1",
    "net.ipv4.conf.cali2.proxy_arp=1",
    "net.ipv6.conf.cali1.proxy_ndp=1",
    "net.ipv6.conf.cali2.proxy_ndp=1",
];

/// What Felix writes for two NetworkPolicies, by its source (`felix/rules/static.go`, `endpoints.go`,
/// `dispatch.go`): P1 takes connections from P3 only; P2 may connect to P1, P3 and P4, at port 8080
/// only. `check`, `sm`, `forward-mark` and `from-mark` are its support for IPVS. The mark's upper bits
/// say which endpoint a packet comes from, 0x10000 that a policy accepts it.
const FELIX: &str = "
set this-host { type ipv4_addr; elements = { 127.0.0.1, 192.168.50.1, 10.244.1.1 } }

chain input {
    type filter hook input priority filter; policy accept;
    jump check
    meta mark & 0xfff00000 != 0 return
    iifname \"cali*\" goto wl-to-host
    meta mark & 0x10000 != 0 accept
}
chain check {
    ct state established,related return
    ip daddr @this-host tcp dport 30000-32767 goto sm
    ip daddr @this-host udp dport 30000-32767 goto sm
    ip daddr != @this-host jump sm
}
chain sm {
    iifname \"cali1\" meta mark set meta mark & 0x000fffff | 0x20000000 return
    iifname \"cali2\" meta mark set meta mark & 0x000fffff | 0x30000000 return
    iifname \"cali*\" drop
    meta mark set meta mark & 0x000fffff | 0x00100000
}
chain wl-to-host {
    jump from-wl
    accept
}

chain forward {
    type filter hook forward priority filter; policy accept;
    meta mark set meta mark & 0xfff1ffff
    iifname \"cali*\" jump from-wl
    oifname \"cali*\" jump to-wl
    meta mark & 0x10000 != 0 accept
}
chain from-wl {
    iifname \"cali1\" goto fw-1
    iifname \"cali2\" goto fw-2
    drop
}
chain to-wl {
    oifname \"cali1\" goto tw-1
    oifname \"cali2\" goto tw-2
    drop
}

chain output {
    type filter hook output priority filter; policy accept;
    meta mark & 0x10000 != 0 accept
    meta mark & 0xfff00000 != 0 goto forward-mark
    oifname \"cali*\" return
}
chain forward-mark {
    meta mark & 0xfff00000 != 0x00100000 jump from-mark
    oifname \"cali*\" jump to-wl
    meta mark set meta mark & 0x000fffff
    meta mark & 0x10000 != 0 accept
}
chain from-mark {
    meta mark & 0xfff00000 == 0x20000000 goto fw-1
    meta mark & 0xfff00000 == 0x30000000 goto fw-2
    drop
}

chain fw-1 {
    ct state established,related accept
    ct state invalid drop
    meta mark set meta mark | 0x10000
}
chain fw-2 {
    ct state established,related accept
    ct state invalid drop
    meta mark set meta mark & 0xfffeffff
    ip daddr { 10.244.1.11, 10.244.2.13, 10.244.2.14 } tcp dport 8080 meta mark set meta mark | 0x10000 return
    drop
}
chain tw-1 {
    ct state established,related accept
    ct state invalid drop
    meta mark set meta mark & 0xfffeffff
    ip saddr 10.244.2.13 meta mark set meta mark | 0x10000 return
    drop
}
chain tw-2 {
    ct state established,related accept
    ct state invalid drop
    meta mark set meta mark | 0x10000
}
";

pub(crate) fn cases() -> Vec<Case> {
    vec![case("calicos_policies_hold_for_services", calicos_policies_hold_for_services)]
}

/// The same of a family. Pods may discover their neighbours, whatever their policies.
fn felix(family: Family) -> String {
    if family == Family::V4 {
        return FELIX.to_owned();
    }
    let hosts = Host::PODS.into_iter().chain([N1]).map(|it| Family::BOTH.map(|of| it.ip(of)));
    // The gateway's address begins some pod's.
    let addresses = hosts.chain([Family::BOTH.map(|of| gateway(1, of))]);
    let words = [
        ("127.0.0.1", "::1"),
        ("ipv4_addr", "ipv6_addr"),
        ("ip daddr", "ip6 daddr"),
        ("ip saddr", "ip6 saddr"),
        ("chain wl-to-host {", "chain wl-to-host { icmpv6 type { 130-133, 135, 136 } accept;"),
    ];
    let text = addresses
        .fold(FELIX.to_owned(), |text, [v4, v6]| text.replace(&v4.to_string(), &v6.to_string()));
    words.iter().fold(text, |text, (of_ipv4, of_ipv6)| text.replace(of_ipv4, of_ipv6))
}

fn calicos_policies_hold_for_services(t: &mut TestContext<'_>) -> Step {
    for (number, endpoint) in [(1, P1), (3, P3), (4, P4)] {
        let name = format!("dev/policed-{number}");
        let web = service(&name).cluster_ip(&format!("10.96.9.6{number}"));
        let web = web.cluster_ip(&format!("fd00:96::96{number}"));
        let web = web.port("http", 80).node_port(31_960 + number).port("other", 90);
        let web = web.load_balancer_ip(&format!("203.0.113.16{number}"));
        t.apply(web.load_balancer_ip(&format!("2001:db8:113::16{number}")))?;
        for slice in endpoints_of_both(&name) {
            let slice = slice.port("http", 8080).port("other", 9090);
            t.apply(slice.ready_on(endpoint))?;
        }
    }
    t.settled()?;
    // Felix looks for it again and again, and starts again when it comes or goes.
    let device = t.host(N1).read("ip", &["-o", "-d", "link", "show", "dev", "kube-ipvs0"])?;
    t.check("the device is there", device.contains("dummy"), &device)?;

    let node = t.host(N1).clone();
    let _links = Temporary::ip(&node, LINKS, BRIDGE)?;
    // Where a link is up again before its neighbours heard that it went down, pods go on sending to the
    // bridge.
    [P1, P2].iter().try_for_each(|pod| t.host(*pod).ip("neigh flush dev eth0\n"))?;
    let _gateway = Temporary::sysctl(&node, &PROXIES)?;
    let _v4 = Temporary::table(&node, "ip calico", &felix(Family::V4))?;
    let _v6 = Temporary::table(&node, "ip6 calico", &felix(Family::V6))?;
    Family::BOTH.into_iter().try_for_each(|family| policies_hold(t, family))
}

fn policies_hold(t: &TestContext<'_>, family: Family) -> Step {
    let answered = |from: Host, to: &str, by: Host| t.expect(from, to, Answers::from(by));
    let dropped = |from: Host, to: &str| t.expect(from, to, Silent);
    let at = |host: Host, port: u16| format!("{}/tcp", SocketAddr::new(host.ip(family), port));
    let cluster_ip = |number: u16, port: u16| match family {
        Family::V4 => format!("10.96.9.6{number}:{port}/tcp"),
        Family::V6 => format!("[fd00:96::96{number}]:{port}/tcp"),
    };
    let balancer = |number: u16, port: u16| match family {
        Family::V4 => format!("203.0.113.16{number}:{port}/tcp"),
        Family::V6 => format!("[2001:db8:113::16{number}]:{port}/tcp"),
    };
    let node_port = |number: u16| at(N1, 31_960 + number);

    answered(P2, &at(P3, 8080), P3)?;
    dropped(P2, &at(P3, 9090))?;
    dropped(P2, &at(P1, 8080))?;
    answered(P3, &at(P1, 8080), P1)?;
    // Egress: what is allowed to the endpoint is allowed to its Service, by each front end.
    for (number, endpoint) in [(3, P3), (4, P4)] {
        for to in [cluster_ip(number, 80), balancer(number, 80), node_port(number)] {
            answered(P2, &to, endpoint)?;
            answered(C, &to, endpoint)?;
        }
        dropped(P2, &cluster_ip(number, 90))?;
        dropped(P2, &balancer(number, 90))?;
    }
    // Ingress: P1 accepts no other client, on any way.
    for to in [cluster_ip(1, 80), balancer(1, 80), node_port(1)] {
        dropped(P2, &to)?;
        dropped(C, &to)?;
        // Felix lets the node reach its own pods.
        answered(N1, &to, P1)?;
    }
    Ok(())
}
