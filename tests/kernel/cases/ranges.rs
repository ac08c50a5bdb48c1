//! Service ranges over foreign networks.

use std::net::IpAddr;
use std::sync::Arc;

use kube_ipvs_core::model::Family;
use kube_ipvs_core::model::Protocol::Tcp;

use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, N2, P1, P2, P3};
use crate::lab::{
    Connection, NODE_PORT_OF_DAEMON, Server, ServiceBuilder, Temporary, endpoints_of_both, gateway,
    node_at, product, service, service_cidr,
};

/// Unused addresses of the wide ranges.
const UNALLOCATED: [&str; 3] = ["10.77.7.7", "192.168.77.7", "[fd00:77::7]"];
/// Where pools stand where all is carried, and where they stand while something else lies there.
const USUAL: [&str; 4] = ["250.96.4.3", "242.96.4.3", "[fc00:96::403]", "[fc80:96::403]"];
const SPARE: [&str; 4] = ["254.96.4.3", "246.96.4.3", "[fc40:96::403]", "[fcc0:96::403]"];
/// What that is.
const AMONG: [&str; 4] = ["250.96.4.0/24", "242.96.4.0/24", "fc00:96::/120", "fc80:96::/120"];
/// How many Services follow the node's address.
const SERVICES: usize = 200;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_service_range_takes_no_foreign_network", |t| {
            t.apply(service_cidr("kubernetes", &["10.0.0.0/8", "fd00::/16"]))?;
            t.apply(service_cidr("nodes", &["192.168.0.0/16"]))?;
            let inner = service("dev/wide").cluster_ip("10.96.4.1").cluster_ip("fd00:96::401");
            let inner = inner.port("http", 80).node_port(31_964);
            served_by_p3(t, inner.clone(), "dev/wide")?;
            nobody_is_cut_off(t)?;
            t.apply(inner.load_balancer_ip("203.0.113.64").load_balancer_ip("2001:db8:113::64"))?;
            t.settled()?;
            nobody_is_cut_off(t)?;
            for to in ["203.0.113.64:80/tcp", "[2001:db8:113::64]:80/tcp", "192.168.50.1:31964/tcp"]
            {
                t.expect(C, to, Answers::from(P3))?;
            }

            let plan = t.command("plan", &[])?.stderr;
            for range in ["10.0.0.0/8: 10.244.", "192.168.0.0/16: 192.168.50.1", "fd00::/16: fd00:"]
            {
                let is_named = plan.contains(&format!("service range {range}"));
                t.check(&format!("`plan` names what lies in {range}"), is_named, &plan)?;
            }
            // A host beyond the default route.
            beyond(t)?;
            // And where the node has a way of its own to.
            let _held = Temporary::ip(t.host(N2), &held("add"), &held("delete"))?;
            let _route = Temporary::ip(t.host(N1), &ways("add"), &ways("delete"))?;
            for (ip, client) in product(UNALLOCATED, [P2, N1, C]) {
                let to = format!("{ip}:{NODE_PORT_OF_DAEMON}/tcp");
                patiently(LONG_PATIENCE, || t.expect(client, &to, Answers::from(N2)))?;
            }
            Ok(())
        }),
        case("shadow_ranges_move_while_no_agent_runs", shadow_ranges_move_while_no_agent_runs),
        case("service_addresses_follow_the_nodes_address", follow_the_nodes_address),
    ]
}

fn served_by_p3(t: &mut TestContext<'_>, service: ServiceBuilder, key: &str) -> Step {
    t.apply(service)?;
    for slice in endpoints_of_both(key) {
        t.apply(slice.port("http", 8080).ready_on(P3))?;
    }
    t.settled()
}

/// Pods, nodes and gateways reach each other, whatever they have to ask the network first.
fn nobody_is_cut_off(t: &TestContext<'_>) -> Step {
    for host in [N1, N2, P1, P2, P3, C] {
        t.host(host).ip("neigh flush all\n")?;
    }
    for family in Family::BOTH {
        let at = |ip: IpAddr, port: u16| format!("{}/tcp", std::net::SocketAddr::new(ip, port));
        for (client, pod) in [(P2, P1), (P2, P3), (P3, P1), (N1, P1), (N1, P3), (N2, P1), (C, P1)] {
            t.expect(client, &at(pod.ip(family), 8080), Answers::from(pod))?;
        }
        for (client, node) in [(P2, N2), (P2, N1), (P3, N1), (N1, N2), (N2, N1), (C, N1), (C, N2)] {
            t.expect(client, &at(node.ip(family), NODE_PORT_OF_DAEMON), Answers::from(node))?;
        }
        t.expect(P2, &at(gateway(1, family), NODE_PORT_OF_DAEMON), Answers::from(N1))?;
        for client in [P2, N1] {
            t.expect_ping_answered(client, &C.ip(family).to_string())?;
        }
    }
    for client in [P2, N1, C] {
        t.expect(client, "10.96.4.1:80/tcp", Answers::from(P3))?;
        t.expect(client, "[fd00:96::401]:80/tcp", Answers::from(P3))?;
    }
    Ok(())
}

/// The external client has addresses of the ranges.
fn beyond(t: &TestContext<'_>) -> Step {
    const PORT: u16 = 7171;
    let _held = Temporary::ip(t.host(C), &held("add"), &held("delete"))?;
    for to in UNALLOCATED.map(|ip| format!("{ip}:{PORT}")) {
        let at = to.parse().expect("an address");
        let _server = Server::start_at(t.host(C), C, at, Tcp)?;
        for client in [P2, N1] {
            t.expect(client, &format!("{to}/tcp"), Answers::from(C))?;
        }
    }
    Ok(())
}

fn held(verb: &str) -> String {
    let line = |ip: &str| match ip.trim_matches(['[', ']']) {
        ip if ip.contains(':') => format!("addr {verb} {ip}/128 dev lo\n"),
        ip => format!("addr {verb} {ip}/32 dev lo\n"),
    };
    UNALLOCATED.map(line).concat()
}

fn ways(verb: &str) -> String {
    let ways = [("10.77.0.0/16", Family::V4), ("192.168.77.0/24", Family::V4)];
    let ways = [&ways[..], &[("fd00:77::/32", Family::V6)]].concat();
    ways.iter().map(|(to, family)| format!("route {verb} {to} via {}\n", N2.ip(*family))).collect()
}

/// Networks come among the images of both families, and go: each time the next agent finds it so.
fn shadow_ranges_move_while_no_agent_runs(t: &mut TestContext<'_>) -> Step {
    t.agent().configure("carry: all")?;
    let web = service("dev/moved").cluster_ip("10.96.4.3").cluster_ip("fd00:96::403");
    let web =
        web.load_balancer_ip("203.0.113.65").load_balancer_ip("2001:db8:113::65").port("http", 80);
    let web = web.node_port(31_965).udp("udp", 80).node_port(31_965);
    t.apply(web.local_external())?;
    for slice in endpoints_of_both("dev/moved") {
        let slice = slice.port("http", 8080).udp("udp", 8080);
        t.apply(slice.ready_on(P1).ready_on(P3))?;
    }
    t.settled()?;
    t.eventually_held("pools at the usual images", |ipvs| are_led(ipvs, &USUAL))?;
    let mut open = open_to_all(t)?;
    let asked = [(C, TO_IMAGES[0]), (N1, TO_IMAGES[2]), (P2, "10.96.4.3:80/tcp")];
    let loads = asked.map(|(client, to)| t.steady_load(client, to));
    let datagrams = t.steady_load(C, "203.0.113.65:80/udp");
    let node = Arc::clone(t.host(N1));
    let lines = |verb: &str| AMONG.map(|it| format!("route {verb} {it} dev eth0\n")).concat();
    t.agent().stop()?;
    let among = Temporary::ip(&node, &lines("add"), &lines("delete"))?;
    expect_moved(t, &SPARE, &mut open)?;
    open.extend(open_to_all(t)?);
    t.agent().stop()?;
    drop(among);
    expect_moved(t, &USUAL, &mut open)?;
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))?;
    t.expect_no_failure(datagrams)
}

/// An agent that starts leads local clients to these shadow addresses, and ends no connection.
fn expect_moved(t: &mut TestContext<'_>, to: &[&str], open: &mut [(String, Connection)]) -> Step {
    t.settled()?;
    t.eventually_held("pools at the other images", |ipvs| are_led(ipvs, to))?;
    t.settled()?;
    t.still_answer(open)?;
    for to in TO_IMAGES {
        t.expect(C, to, Answers::from(P1))?;
        t.expect(P2, to, Answers::from_all([P1, P3]))?;
    }
    Ok(())
}

/// Whether there is a pool at each of these addresses that gets new connections.
fn are_led(ipvs: &str, places: &[&str]) -> bool {
    let gets = |place: &&str| {
        let real = format!("-a -t {place}:80 -r ");
        ipvs.lines().any(|line| line.starts_with(&real) && !line.ends_with("-w 0"))
    };
    places.iter().all(gets)
}

/// Front ends that lead to images.
const TO_IMAGES: [&str; 4] = [
    "203.0.113.65:80/tcp",
    "192.168.50.1:31965/tcp",
    "[2001:db8:113::65]:80/tcp",
    "[fd00:50::1]:31965/tcp",
];

/// A connection of each client through each of them, and to the ClusterIPs.
fn open_to_all(t: &TestContext<'_>) -> Step<Vec<(String, Connection)>> {
    let to = TO_IMAGES.into_iter().chain(["10.96.4.3:80/tcp", "[fd00:96::403]:80/tcp"]);
    product([P2, N1, C], to)
        .map(|(client, to)| Ok((format!("{client}'s connection to {to}"), t.connect(client, to)?)))
        .collect()
}

fn follow_the_nodes_address(t: &mut TestContext<'_>) -> Step {
    for number in 0..SERVICES {
        let web = service(&format!("many/web-{number}"));
        let web = web.cluster_ip(&format!("10.96.40.{number}"));
        t.apply(web.cluster_ip(&format!("fd00:96::40:{number:x}")).port("http", 80))?;
    }
    let web = service("dev/followed").cluster_ip("10.96.4.2").cluster_ip("fd00:96::402");
    served_by_p3(t, web.port("http", 80), "dev/followed")?;
    speaks_from(t, Family::BOTH.map(|family| N1.ip(family)))?;

    let new: [IpAddr; 2] = ["192.168.50.11", "fd00:50::11"].map(|ip| ip.parse().expect("address"));
    let lines = |verb: &str| {
        format!(
            "addr {verb} 192.168.50.11/24 dev eth0\naddr {verb} fd00:50::11/64 dev eth0 nodad\n"
        )
    };
    let _second = Temporary::ip(t.host(N1), &lines("add"), &lines("delete"))?;
    t.apply(node_at(N1, &new))?;
    patiently(LONG_PATIENCE, || speaks_from(t, new))?;
    // Without a Node object, what it told is so still.
    t.delete(node_at(N1, &new))?;
    speaks_from(t, new)?;

    // As after a change of the network: the kernel deletes the routes with the address.
    t.host(N1).ip(&lines("delete"))?;
    t.host(N1).ip(&lines("add"))?;
    patiently(LONG_PATIENCE, || speaks_from(t, new))?;
    // It goes with the agent.
    Ok(t.agent().stop()?)
}

/// Every service address is served, and the node speaks to it from these of its own.
fn speaks_from(t: &TestContext<'_>, own: [IpAddr; 2]) -> Step {
    for (family, ip) in [("-4", own[0]), ("-6", own[1])] {
        let routes =
            t.host(N1).read("ip", &[family, "route", "show", "table", "local", "proto", "75"])?;
        let source = format!(" src {ip} ");
        let right = routes.lines().filter(|line| line.contains(&source)).count();
        if right != SERVICES + 1 {
            return Err(Failure::new(format!("routes with{source}"), SERVICES + 1, routes));
        }
    }
    for client in [P2, N1, C] {
        t.expect(client, "10.96.4.2:80/tcp", Answers::from(P3))?;
        t.expect(client, "[fd00:96::402]:80/tcp", Answers::from(P3))?;
    }
    Ok(())
}
