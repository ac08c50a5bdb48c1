//! Addresses that Services share with machines: what is no front end stays the machine's.

use std::io;
use std::net::SocketAddr;

use kube_ipvs_core::model::Protocol::{self, Tcp, Udp};
use kube_ipvs_core::model::{Family, VirtualAddress};

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{self, C, N1, N2, P1, P2, P3};
use crate::lab::{NODE_PORT_OF_DAEMON, Server, Temporary, endpoints_of_both, product, service};

/// Load balancer and external IP, of both families.
const ADDRESSES: [&str; 4] =
    ["203.0.113.120", "198.51.100.120", "2001:db8:113::120", "2001:db8:51::120"];

/// A port that no Service has, where a machine serves.
const OTHER: u16 = 7171;

/// Hosts take a shorter way that the node tells them of, past it.
const NO_SHORT_WAYS: [&str; 4] = [
    "net.ipv4.conf.all.accept_redirects=0",
    "net.ipv4.conf.eth0.accept_redirects=0",
    "net.ipv6.conf.all.accept_redirects=0",
    "net.ipv6.conf.eth0.accept_redirects=0",
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_address_of_another_machine_keeps_its_other_ports", of_another_machine),
        case("an_address_that_the_node_holds_keeps_its_other_ports", |t| {
            served(t, &ADDRESSES)?;
            t.settled()?;
            // An announcer moves addresses while the agent is away, too.
            for (device, is_away) in [("lo", false), ("eth0", true)] {
                if is_away {
                    t.agent().stop()?;
                }
                let lines = |verb: &str| on_device(verb, &ADDRESSES, device);
                let _held = Temporary::ip(t.host(N1), &lines("add"), &lines("delete"))?;
                let _servers = servers(t, N1, &ADDRESSES)?;
                for (ip, client) in product(ADDRESSES, [C, P2, N1]) {
                    belongs_to(t, client, ip, N1)?;
                }
            }
            t.settled()?;
            patiently(LONG_PATIENCE, || expect_refused(t))
        }),
        case("an_address_behind_the_node_keeps_its_other_ports", |t| {
            served(t, &ADDRESSES)?;
            t.settled()?;
            expect_refused(t)?;
            let lines = |verb: &str| on_device(verb, &ADDRESSES, "lo");
            let _held = Temporary::ip(t.host(N2), &lines("add"), &lines("delete"))?;
            let _servers = servers(t, N2, &ADDRESSES)?;
            let _routes = behind_the_node(t)?;
            let routes = |verb: &str| routes(verb, &ADDRESSES, N2);
            let routed = Temporary::ip(t.host(N1), &routes("add"), &routes("delete"))?;
            for (ip, client) in product(ADDRESSES, [C, P2, N1]) {
                patiently(LONG_PATIENCE, || belongs_to(t, client, ip, N2))?;
            }
            drop(routed);
            patiently(LONG_PATIENCE, || expect_refused(t))
        }),
        case("no_datagram_to_a_service_address_circles", no_datagram_circles),
    ]
}

/// As k3s' ServiceLB writes them: the addresses of all nodes. And one of an appliance.
fn of_another_machine(t: &mut TestContext<'_>) -> Step {
    let nodes = ["192.168.50.1", "fd00:50::1", "192.168.50.2", "fd00:50::2"];
    served(t, &[&nodes[..], &["192.168.50.100", "fd00:50::100"]].concat())?;
    t.settled()?;
    let others = &nodes[2..];
    let _servers = servers(t, N2, others)?;
    let _routes = behind_the_node(t)?;
    for (ip, client) in product(others, [P2, N1, C]) {
        belongs_to(t, client, ip, N2)?;
        let (to, from) = (at(ip, OTHER, Tcp), client.ip(family(ip)).to_string());
        let explained = t.agent().bare_command(&["explain", &to, "--from", &from])?.stdout;
        t.check(&format!("`explain {to} --from {from}`"), explained.contains(": pass"), explained)?;
    }
    for (ip, client) in product(["192.168.50.100", "fd00:50::100"], [P2, N1]) {
        t.expect_ping_answered(client, ip)?;
        t.expect(client, &at(ip, 80, Tcp), Answers::from(P1))?;
        // The machine itself refuses.
        t.expect(client, &at(ip, NODE_PORT_OF_DAEMON, Tcp), Refused)?;
    }
    for (ip, client) in product(&nodes[..2], [P2, N1, C]) {
        t.expect(client, &at(ip, NODE_PORT_OF_DAEMON, Tcp), Answers::from(N1))?;
    }
    Ok(())
}

/// A gateway that sends packets for service addresses to the node, which sends there what it does
/// not know.
fn no_datagram_circles(t: &mut TestContext<'_>) -> Step {
    served(t, &ADDRESSES)?;
    t.settled()?;
    let gateway = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    let _gateway = Temporary::sysctl(t.host(C), &gateway)?;
    let _straight = straight(t)?;
    let unallocated = ["10.96.9.99", "fd00:96::999"];
    for (ip, client) in product([&ADDRESSES[..], &unallocated].concat(), [N2, P3, P2]) {
        let family = if ip.contains(':') { "ip6" } else { "ip" };
        // What a pod sends to an address with other ports may go on.
        if client == P2 && ADDRESSES.contains(&ip) {
            continue;
        }
        let counter = format!(
            "chain crossings {{ type filter hook prerouting priority -400; \
             {family} daddr {ip} udp dport 81 counter; }}"
        );
        let _counter = Temporary::table(t.host(N1), "inet spy", &counter)?;
        if ADDRESSES.contains(&ip) {
            t.expect(client, &at(ip, 81, Udp), Refused)?;
        } else {
            let flow = t.flow(client, &at(ip, 81, Udp))?;
            flow.send()?;
        }
        patiently(LONG_PATIENCE, || {
            let counted = t.host(N1).read("nft", &["list", "table", "inet", "spy"])?;
            let step = format!("{client}'s datagram to {ip} meets the node");
            t.check(&step, counted.contains("counter packets 1 "), counted)
        })?;
    }
    Ok(())
}

/// Packets between the external client and the other node pass the node, both ways.
fn behind_the_node(t: &TestContext<'_>) -> Step<(Vec<Temporary>, [Temporary; 2])> {
    let over_the_node = |from: Host, to: Host| {
        let to = Family::BOTH.map(|family| to.ip(family).to_string());
        let routes = |verb: &str| routes(verb, &to.each_ref().map(String::as_str), N1);
        Temporary::ip(t.host(from), &routes("add"), &routes("delete"))
    };
    Ok((straight(t)?, [over_the_node(C, N2)?, over_the_node(N2, C)?]))
}

/// No host is told of a shorter way.
fn straight(t: &TestContext<'_>) -> Step<Vec<Temporary>> {
    let set = |host| Temporary::sysctl(t.host(host), &NO_SHORT_WAYS);
    Ok([C, N1, N2].into_iter().map(set).collect::<io::Result<_>>()?)
}

/// Servers of a machine at these addresses of its.
fn servers(t: &TestContext<'_>, machine: Host, ips: &[&str]) -> Step<Vec<Server>> {
    let start = |(ip, protocol): (&&str, Protocol)| {
        let at = SocketAddr::new(ip.parse().expect("an address"), OTHER);
        Server::start_at(t.host(machine), machine, at, protocol)
    };
    let each = ips.iter().flat_map(|ip| [Tcp, Udp].map(|protocol| (ip, protocol)));
    Ok(each.map(start).collect::<io::Result<_>>()?)
}

fn served(t: &mut TestContext<'_>, ips: &[&str]) -> Step {
    let mut web = service("dev/shared").cluster_ip("10.96.9.20").cluster_ip("fd00:96::920");
    for ip in ips {
        web = web.load_balancer_ip(ip);
    }
    t.apply(web.port("http", 80))?;
    for slice in endpoints_of_both("dev/shared") {
        t.apply(slice.port("http", 8080).ready_on(P1))?;
    }
    Ok(())
}

/// The Service's port is served; all else is the machine's.
fn belongs_to(t: &TestContext<'_>, client: Host, ip: &str, machine: Host) -> Step {
    t.expect(client, &at(ip, 80, Tcp), Answers::from(P1))?;
    for protocol in [Tcp, Udp] {
        t.expect(client, &at(ip, OTHER, protocol), Answers::from(machine))?;
    }
    t.expect(client, &at(ip, 81, Tcp), Refused)?;
    t.expect_ping_answered(client, ip)
}

/// External clients are rejected at once at other ports.
fn expect_refused(t: &TestContext<'_>) -> Step {
    for ip in ADDRESSES {
        for protocol in [Tcp, Udp] {
            t.expect(C, &at(ip, NODE_PORT_OF_DAEMON, protocol), Refused)?;
        }
        t.expect_ping_refused(C, ip)?;
    }
    Ok(())
}

fn at(ip: &str, port: u16, protocol: Protocol) -> String {
    VirtualAddress { ip: ip.parse().expect("an address"), port, protocol }.to_string()
}

fn family(ip: &str) -> Family {
    Family::of(ip.parse().expect("an address"))
}

fn on_device(verb: &str, ips: &[&str], device: &str) -> String {
    let line = |ip: &&str| match family(ip) {
        Family::V4 => format!("addr {verb} {ip}/32 dev {device}\n"),
        Family::V6 if verb == "add" => format!("addr add {ip}/128 dev {device} nodad\n"),
        Family::V6 => format!("addr {verb} {ip}/128 dev {device}\n"),
    };
    ips.iter().map(line).collect()
}

fn routes(verb: &str, ips: &[&str], via: Host) -> String {
    ips.iter().map(|ip| format!("route {verb} {ip} via {}\n", via.ip(family(ip)))).collect()
}
