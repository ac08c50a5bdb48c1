//! External and load balancer IPs that are the node's own addresses, and own packets' source.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use kube_ipvs_core::model::Protocol::{self, Tcp, Udp};
use kube_ipvs_core::model::VirtualAddress;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{C, N1, P1, P2};
use crate::lab::{
    NODE_PORT_OF_DAEMON, Server, Temporary, endpoints_of_both, node_at, product, service,
};

/// This node's InternalIPs.
const OWN: [&str; 2] = ["192.168.50.1", "fd00:50::1"];
/// A port of the node where something listens before a Service asks for it.
const BUSY: u16 = 7171;
/// A port that a Service asks for, and that is one of its node ports, too.
const BOTH: u16 = 31_947;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_address_of_the_node_is_served_except_at_its_own_ports", |t| {
            t.agent().configure("auditPeriod: 2s")?;
            for is_written in [true, false] {
                served_at_the_node(t, is_written)?;
            }
            Ok(())
        }),
        case("own_packets_carry_an_address_that_the_node_has", own_packets),
    ]
}

fn served_at_the_node(t: &mut TestContext<'_>, is_written: bool) -> Step {
    let busy = servers(t, BUSY, &[Tcp, Udp])?;
    let web = service("dev/own").cluster_ip("10.96.9.30").cluster_ip("fd00:96::930");
    let web = web.port("http", 80).port("api", 6443);
    let web = web.port("busy", BUSY).udp("busy-udp", BUSY);
    let web = web.port("both", BOTH).node_port(BOTH);
    let web = match is_written {
        true => web.spec("externalIPs", OWN.to_vec()),
        false => web.load_balancer_ip(OWN[0]).load_balancer_ip(OWN[1]),
    };
    t.apply(web.clone())?;
    for slice in endpoints_of_both("dev/own") {
        let slice = slice.port("http", 8080).port("api", 8080).port("both", 8080);
        t.apply(slice.port("busy", 8080).udp("busy-udp", 8080).ready_on(P1))?;
    }
    t.settled()?;
    // Comes later than the Service, and so gets nothing; an API server may come later.
    let _late = (listeners(t, 80)?, servers(t, 6443, &[Tcp])?);
    for is_new in [false, true] {
        if is_new {
            t.agent().stop()?;
            t.settled()?;
        }
        for (ip, client) in product(OWN, [C, P2, N1]) {
            t.expect(client, &at(ip, 80, Tcp), Answers::from(P1))?;
            t.expect(client, &at(ip, BOTH, Tcp), Answers::from(P1))?;
            t.expect(client, &at(ip, 6443, Tcp), Answers::from(N1))?;
            for port in [(BUSY, Tcp), (BUSY, Udp), (NODE_PORT_OF_DAEMON, Tcp)] {
                t.expect(client, &at(ip, port.0, port.1), Answers::from(N1))?;
            }
            t.expect(client, &at(ip, 81, Tcp), Refused)?;
            t.expect_ping_answered(client, ip)?;
        }
        for (port, reason) in [(BUSY, "listened there first"), (6443, "protectedNodePorts")] {
            let to = at(OWN[0], port, Tcp);
            let explained = t.agent().bare_command(&["explain", &to, "--from", "node"])?.stdout;
            let is_named =
                explained.contains("Service dev/own does not get") && explained.contains(reason);
            t.check(&format!("`explain {to}`"), is_named, explained)?;
        }
    }
    // `render` asks no node: what listens there is nothing to it.
    let rendered = t.command("render", &["-o", "ipvsadm"])?.stderr;
    let status = t.run_to_end("status", &[])?;
    for ip in OWN {
        for (port, reason) in [(BUSY, "listened there first"), (6443, "protectedNodePorts")] {
            let to = at(ip, port, Tcp);
            let is_named = |text: &str, how: &str| {
                let mut lines =
                    text.lines().filter(|line| line.contains(&format!(" {to} {how}: ")));
                lines.any(|line| line.contains(reason))
            };
            t.check(&format!("`status` names {to}"), is_named(&status, "refused"), &status)?;
            let is_rendered = is_named(&rendered, "is not served");
            t.equal(&format!("`render` names {to}"), port == 6443, is_rendered)?;
        }
    }
    // The port is free again.
    drop(busy);
    for (ip, client) in product(OWN, [C, P2, N1]) {
        patiently(LONG_PATIENCE, || t.expect(client, &at(ip, BUSY, Tcp), Answers::from(P1)))?;
    }
    t.settled()?;
    t.delete(web)?;
    t.settled()
}

/// The node's address moves, and the Node object does not say so yet.
fn own_packets(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/source").cluster_ip("10.96.9.31").cluster_ip("fd00:96::931");
    t.apply(web.port("http", 80))?;
    for slice in endpoints_of_both("dev/source") {
        t.apply(slice.port("http", 8080).ready_on(P1))?;
    }
    t.settled()?;
    t.apply(node_at(N1, &OWN.map(|ip| ip.parse().expect("address"))))?;
    t.settled()?;
    let front_ends = ["10.96.9.31:80/tcp", "[fd00:96::931]:80/tcp"];
    let _promote = Temporary::sysctl(t.host(N1), &["net.ipv4.conf.eth0.promote_secondaries=1"])?;
    let other = "addr add 192.168.50.9/24 dev eth0\naddr add fd00:50::9/64 dev eth0 nodad\n";
    let _other = Temporary::ip(
        t.host(N1),
        other,
        &other.replace("addr add", "addr delete").replace(" nodad", ""),
    )?;
    let own = "addr delete 192.168.50.1/24 dev eth0\naddr delete fd00:50::1/64 dev eth0\n";
    let again =
        own.replace("addr delete", "addr add").replace("::1/64 dev eth0", "::1/64 dev eth0 nodad");
    let moved = Temporary::ip(t.host(N1), own, &again)?;
    for is_new in [false, true] {
        if is_new {
            t.agent().stop()?;
            t.agent().start()?;
        }
        for (front_end, client) in product(front_ends, [N1, P2, P1]) {
            patiently(LONG_PATIENCE, || t.expect(client, front_end, Answers::from(P1)))?;
        }
    }
    drop(moved);
    for front_end in front_ends {
        patiently(LONG_PATIENCE, || t.expect(N1, front_end, Answers::from(P1)))?;
    }
    t.settled()?;
    // What is known of the node goes with the agent, not with the Node object.
    Ok(t.agent().stop()?)
}

/// Servers at a port of the node's own addresses.
fn servers(t: &TestContext<'_>, port: u16, protocols: &[Protocol]) -> io::Result<Vec<Server>> {
    let start = |(ip, protocol): (&str, Protocol)| {
        let at = SocketAddr::new(ip.parse().expect("an address"), port);
        Server::start_at(t.host(N1), N1, at, protocol)
    };
    OWN.into_iter()
        .flat_map(|ip| protocols.iter().map(move |protocol| (ip, *protocol)))
        .map(start)
        .collect()
}

/// Sockets that listen there and answer nothing.
fn listeners(t: &TestContext<'_>, port: u16) -> io::Result<Vec<TcpListener>> {
    let bind = |ip: &str| {
        let ip: IpAddr = ip.parse().expect("an address");
        t.host(N1).inside(|| TcpListener::bind((ip, port)))
    };
    OWN.into_iter().map(bind).collect()
}

fn at(ip: &str, port: u16, protocol: Protocol) -> String {
    VirtualAddress { ip: ip.parse().expect("an address"), port, protocol }.to_string()
}
