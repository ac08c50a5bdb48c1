//! A CNI's rules for hostPorts, which take a port of every local address for a pod's. Service
//! addresses are local, too.

use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{PATIENCE, Temporary, endpoints, product, service};

/// As the portmap plugin writes them, for a pod that wants ports 80 and 81 of the node, and one
/// that is another Service's node port.
const HOST_PORTS: &str = "
chain ports {
    meta nfproto ipv4 meta l4proto { tcp, udp } th dport { 80, 81, 31940 } dnat ip to 10.244.1.12:8080
    meta nfproto ipv6 meta l4proto { tcp, udp } th dport { 80, 81, 31940 } dnat ip6 to [fd00:244:1::12]:8080
}
chain prerouting { type nat hook prerouting priority -100; fib daddr type local jump ports; }
chain output { type nat hook output priority -100; fib daddr type local jump ports; }
";

/// As Docker writes them, for a container that is published at the same ports.
const PUBLISHED: &str = "*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d LOOPBACK -m addrtype --dst-type LOCAL -j DOCKER
";

/// ClusterIP, load balancer and external IP, and node port.
const FRONT_ENDS: [&str; 8] = [
    "10.96.9.1:80",
    "198.51.100.91:80",
    "203.0.113.91:80",
    "192.168.50.1:31940",
    "[fd00:96::901]:80",
    "[2001:db8:51::91]:80",
    "[2001:db8:113::91]:80",
    "[fd00:50::1]:31940",
];

pub(crate) fn cases() -> Vec<Case> {
    vec![case("host_ports_take_no_service_traffic", host_ports_take_no_service_traffic)]
}

fn host_ports_take_no_service_traffic(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/hostports").cluster_ip("10.96.9.1").cluster_ip("fd00:96::901");
    let web = web.port("tcp", 80).node_port(31_940).udp("udp", 80).node_port(31_940);
    let web = web.port("tcp-91", 91).port("tcp-92", 92);
    let web = web.load_balancer_ip("203.0.113.91").load_balancer_ip("2001:db8:113::91");
    t.apply(web.external_ip("198.51.100.91").external_ip("2001:db8:51::91"))?;
    let slice = endpoints("dev/hostports").port("tcp", 8080).udp("udp", 8080);
    let slice = slice.port("tcp-91", 8080).port("tcp-92", 8080);
    t.apply(slice.clone().ready_on(P3))?;
    let slice = slice.named("hostports-v6").of_family(Family::V6);
    t.apply(slice.ready_on(P3))?;
    t.settled()?;
    let published = Temporary::iptables(
        t.host(N1),
        &published("127.0.0.0/8", "10.244.1.12:8080"),
        &published("::1/128", "[fd00:244:1::12]:8080"),
    )?;
    expect_service(t)?;
    // The container gets what it is published for.
    t.expect(C, "192.168.50.1:80/tcp", Answers::from(P2))?;
    t.expect(C, "[fd00:50::1]:81/tcp", Answers::from(P2))?;
    drop(published);
    let host_ports = Temporary::table(t.host(N1), "inet hostports", HOST_PORTS)?;
    expect_service(t)?;
    // An announcer's addresses are local, too.
    let lines = |verb: &str| {
        format!("addr {verb} 203.0.113.91/32 dev lo\naddr {verb} 2001:db8:113::91/128 dev lo\n")
    };
    let announced = Temporary::ip(t.host(N1), &lines("add"), &lines("delete"))?;
    expect_service(t)?;
    drop(announced);
    // The other ports of a ClusterIP have no front end.
    for client in [P1, N1, C] {
        t.expect(client, "10.96.9.1:81/tcp", Refused)?;
        t.expect(client, "[fd00:96::901]:81/tcp", Refused)?;
    }
    // What masquerading is decided by is still known.
    t.expect(C, "10.96.9.1:80/tcp", Answers::from(P3).to(N1))?;
    t.expect(P1, "10.96.9.1:80/tcp", Answers::from(P3).to(P1))?;
    // At ports without other clients, so that all counted packets are this client's.
    for (port, client) in [(91, P1), (92, C)] {
        ipvs_carries_every_packet(t, client, &format!("10.96.9.1:{port}"))?;
    }
    // The pod gets what it asked for.
    for (address, protocol) in product(["192.168.50.1:80", "[fd00:50::1]:81"], ["tcp", "udp"]) {
        t.expect(C, &format!("{address}/{protocol}"), Answers::from(P2))?;
        t.expect(N1, &format!("{address}/{protocol}"), Answers::from(P2))?;
    }
    drop(host_ports);
    Ok(())
}

fn published(loopback: &str, container: &str) -> String {
    let mut rules = PUBLISHED.replace("LOOPBACK", loopback);
    for (port, protocol) in product([80, 81, 31_940], ["tcp", "udp"]) {
        rules.push_str(&format!(
            "-A DOCKER ! -i docker0 -p {protocol} --dport {port} -j DNAT --to-destination {container}\n"
        ));
    }
    rules + "COMMIT\n"
}

fn expect_service(t: &TestContext<'_>) -> Step {
    for front_end in FRONT_ENDS {
        for (client, protocol) in [(P1, "tcp"), (N1, "tcp"), (C, "tcp"), (C, "udp")] {
            let reply = t.ask(client, &format!("{front_end}/{protocol}"))?;
            t.equal(&format!("{client} asks {front_end}/{protocol}"), P3, reply.server)?;
        }
    }
    Ok(())
}

/// IPVS counts a connection's later packets as it does the first. It does so every other second.
fn ipvs_carries_every_packet(t: &TestContext<'_>, client: Host, front_end: &str) -> Step {
    const REQUESTS: u64 = 10;
    let mut connection = t.connect(client, &format!("{front_end}/tcp"))?;
    for _ in 0..REQUESTS {
        t.expect_answer(&mut connection, "an open connection")?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = packets_in(t, front_end)?;
        if counted >= REQUESTS {
            return Ok(());
        }
        t.check("IPVS counts each request", Instant::now() < deadline, counted)?;
        thread::sleep(Duration::from_millis(100));
    }
}

/// Packets from clients to a virtual server.
fn packets_in(t: &TestContext<'_>, server: &str) -> Step<u64> {
    let table = t.host(N1).read("ipvsadm", &["-Ln", "--stats", "--exact"])?;
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.first() == Some(&"TCP") && row.get(1) == Some(&server));
    let packets = row.and_then(|row| row.get(3)?.parse().ok());
    t.check("a row of the virtual server", packets.is_some(), &table)?;
    Ok(packets.unwrap_or_default())
}
