//! Whose answer it is, where a client has two connections to one endpoint from one port.

use std::net::SocketAddr;

use kube_ipvs_core::model::Family;

use self::State::{Ended, Open, Reset};
use super::{Case, case};
use crate::context::{Failure, Step, TestContext};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{Connection, Flow, POD_PORTS, Temporary, endpoints_of_both, product, service};

/// Two Services of each pod. Service N has these front ends, with N for its number.
const PODS: [(Host, [u16; 2]); 2] = [(P1, [1, 2]), (P3, [3, 4])];
/// ClusterIP, load balancer IP and node port.
const FRONT_ENDS: [[&str; 3]; 2] = [
    ["10.96.3.6N:80", "203.0.113.6N:80", "192.168.50.1:3196N"],
    ["[fd00:96::36N]:80", "[2001:db8:113::6N]:80", "[fd00:50::1]:3196N"],
];

/// What has become of the connection through the Service when the other one is opened.
#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    Ended,
    Reset,
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_endpoint_answers_a_port_in_use_with_its_service", |t| {
            served(t)?;
            // Else the kernel looks for a process's socket before IPVS has translated an answer,
            // and finds the one that is connected straight to the endpoint.
            let _setting = Temporary::sysctl(t.host(N1), &["net.ipv4.ip_early_demux=0"])?;
            for (client, (pod, [number, _])) in product([P2, C, N1], PODS) {
                for to in FRONT_ENDS.concat().iter().map(|to| front_end(to, number)) {
                    for state in [Open, Ended, Reset] {
                        reaches_its_endpoint(t, client, &to, pod, state)?;
                    }
                    reaches_its_endpoint_by_datagrams(t, client, &to, pod)?;
                }
            }
            Ok(())
        }),
        case("two_ports_of_a_cluster_ip_answer_one_port", |t| {
            let web = service("dev/ports").cluster_ip("10.96.3.70").cluster_ip("fd00:96::370");
            let web = web.port("one", 80).port("other", 81);
            t.apply(web.udp("one-udp", 80).udp("other-udp", 81))?;
            for slice in endpoints_of_both("dev/ports") {
                let slice = slice.port("one", POD_PORTS[0]).port("other", POD_PORTS[0]);
                let slice = slice.udp("one-udp", POD_PORTS[0]);
                t.apply(slice.udp("other-udp", POD_PORTS[0]).ready_on(P3))?;
            }
            t.settled()?;
            for (client, ip) in product([P2, C, N1], ["10.96.3.70", "[fd00:96::370]"]) {
                let to = [80, 81].map(|port| format!("{ip}:{port}"));
                serves_both(t, client, to.each_ref().map(String::as_str), P3)?;
            }
            Ok(())
        }),
        case("two_services_of_an_endpoint_answer_one_port", |t| {
            served(t)?;
            for (client, (pod, [one, other])) in product([P2, C, N1], PODS) {
                for (cluster_ip, to) in FRONT_ENDS.iter().flat_map(|all| all.map(|it| (all[0], it)))
                {
                    let to = [front_end(cluster_ip, one), front_end(to, other)];
                    serves_both(t, client, to.each_ref().map(String::as_str), pod)?;
                }
            }
            Ok(())
        }),
    ]
}

fn front_end(address: &str, service: u16) -> String {
    address.replace('N', &service.to_string())
}

fn served(t: &mut TestContext<'_>) -> Step {
    for (pod, number) in PODS.iter().flat_map(|(pod, numbers)| numbers.map(|it| (*pod, it))) {
        let key = format!("dev/answers-{number}");
        let web = service(&key).cluster_ip(&format!("10.96.3.6{number}"));
        let web = web.cluster_ip(&format!("fd00:96::36{number}"));
        let web = web.load_balancer_ip(&format!("203.0.113.6{number}"));
        let web = web.load_balancer_ip(&format!("2001:db8:113::6{number}"));
        let node_port = 31_960 + number;
        let web = web.port("tcp", 80).node_port(node_port);
        t.apply(web.udp("udp", 80).node_port(node_port))?;
        for slice in endpoints_of_both(&key) {
            let slice = slice.port("tcp", POD_PORTS[0]).udp("udp", POD_PORTS[0]);
            t.apply(slice.ready_on(pod))?;
        }
    }
    t.settled()
}

/// The endpoint itself, as one asks for it.
fn endpoint(pod: Host, beside: &str) -> String {
    let family = if beside.starts_with('[') { Family::V6 } else { Family::V4 };
    SocketAddr::new(pod.ip(family), POD_PORTS[0]).to_string()
}

fn reaches_its_endpoint(
    t: &TestContext<'_>,
    client: Host,
    to: &str,
    pod: Host,
    state: State,
) -> Step {
    let port = t.host(client).client_port();
    let which = format!("{client}'s connection from port {port} to {to}, {state:?}");
    let mut through = t.connect_from(client, port, &format!("{to}/tcp"))?;
    answers(t, &mut through, pod, &which)?;
    let mut open = None;
    match state {
        Open => open = Some(through),
        Ended => through
            .ask_last()
            .map(drop)
            .map_err(|silence| Failure::new(&which, "a last answer", silence))?,
        Reset => through.reset()?,
    }
    let endpoint = format!("{}/tcp", endpoint(pod, to));
    let mut direct = t.connect_from(client, port, &endpoint)?;
    for beside in 0..3 {
        answers(t, &mut direct, pod, &format!("a connection to its endpoint beside {which}"))?;
        if let Some(open) = &mut open {
            answers(t, open, pod, &format!("{which}, beside {beside} answers of its endpoint"))?;
        }
    }
    direct.reset()?;
    // What ends at one connection must not end the other.
    if let Some(open) = &mut open {
        answers(t, open, pod, &format!("{which}, after one to its endpoint was reset"))?;
        let direct = t.connect_from(client, port, &endpoint)?;
        let step = format!("the end of a connection to its endpoint beside {which}");
        direct.ask_last().map_err(|silence| Failure::new(step, "an answer", silence))?;
        answers(t, open, pod, &format!("{which}, after one to its endpoint was closed"))?;
    }
    Ok(())
}

fn reaches_its_endpoint_by_datagrams(
    t: &TestContext<'_>,
    client: Host,
    to: &str,
    pod: Host,
) -> Step {
    let port = t.host(client).client_port();
    let through = t.flow_from(client, port, &format!("{to}/udp"))?;
    let direct = t.flow_from(client, port, &format!("{}/udp", endpoint(pod, to)))?;
    for _ in 0..3 {
        for (flow, to) in [(&through, to), (&direct, "its endpoint")] {
            answers_datagram(t, flow, pod, &format!("{client}'s port {port} sends to {to}"))?;
        }
    }
    Ok(())
}

/// A client's connections and flows to two front ends go on beside each other.
fn serves_both(t: &TestContext<'_>, client: Host, [one, other]: [&str; 2], pod: Host) -> Step {
    let port = t.host(client).client_port();
    let connect = |to: &str| t.connect_from(client, port, &format!("{to}/tcp"));
    let flow = |to: &str| t.flow_from(client, port, &format!("{to}/udp"));
    let mut connections = [connect(one)?, connect(other)?];
    let flows = [flow(one)?, flow(other)?];
    for _ in 0..3 {
        for (index, to) in [one, other].into_iter().enumerate() {
            let which = format!("{client}'s port {port} asks {to}, beside {one} and {other}");
            answers(t, &mut connections[index], pod, &which)?;
            answers_datagram(t, &flows[index], pod, &which)?;
        }
    }
    Ok(())
}

fn answers(t: &TestContext<'_>, connection: &mut Connection, pod: Host, which: &str) -> Step {
    let reply = t.expect_answer(connection, which)?;
    t.equal(which, pod, reply.server)
}

fn answers_datagram(t: &TestContext<'_>, flow: &Flow, pod: Host, which: &str) -> Step {
    let reply = flow.ask().map_err(|silence| Failure::new(which, "an answer", silence))?;
    t.equal(which, pod, reply.server)
}
