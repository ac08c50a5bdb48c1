//! UDP sockets that outlive what they talk to.

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{
    Flow, ServiceBuilder, SliceBuilder, endpoints, endpoints_of_both, service, service_cidr,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_socket_moves_to_another_endpoint", a_socket_moves_to_another_endpoint),
        case("a_socket_older_than_its_node_port", |t| {
            let to = "192.168.50.1:31943/udp";
            t.settled()?;
            let flow = t.flow(C, to)?;
            t.check("nobody answers yet", flow.ask().is_err(), "an answer")?;
            t.apply(served("dev/late", "10.96.9.5", "203.0.113.95").node_port(31_943))?;
            t.apply(slice("dev/late").ready_on(P1))?;
            t.settled()?;
            t.eventually_answers(&flow, P1, "the same socket after the Service was created")?;
            t.expect(C, to, Answers::from(P1))
        }),
        case("sockets_older_than_their_service_are_served", sockets_outlive_what_they_talk_to),
        case("sockets_older_than_their_service_in_an_unknown_range_are_served", |t| {
            t.agent().delete(&service_cidr("kubernetes", &[]).into())?;
            sockets_outlive_what_they_talk_to(t)
        }),
    ]
}

/// Before there is a Service, its datagrams go wherever the node's routes lead, or are dropped. While it
/// has no endpoint they are refused.
fn sockets_outlive_what_they_talk_to(t: &mut TestContext<'_>) -> Step {
    t.settled()?;
    let mut flows = Vec::new();
    for to in ["10.96.9.7:80", "203.0.113.97:80", "192.168.50.1:31944", "[fd00:96::907]:80"] {
        for from in [N1, P2, C] {
            let to = format!("{to}/udp");
            flows.push((format!("{from} to {to}"), t.flow(from, &to)?));
        }
    }
    // Connection tracking remembers what it has seen of each.
    let send = |flows: &[(String, Flow)]| {
        flows.iter().for_each(|(_, flow)| drop((flow.send(), flow.send())));
    };
    send(&flows);
    let late = service("dev/late").cluster_ip("10.96.9.7").cluster_ip("fd00:96::907");
    let late = late.load_balancer_ip("203.0.113.97").udp("udp", 80).node_port(31_944);
    let endpoints = || endpoints_of_both("dev/late").map(|it| it.udp("udp", 8080));
    t.apply(late)?;
    for slice in endpoints() {
        t.apply(slice.ready_on(P1))?;
    }
    t.settled()?;
    for (which, flow) in &flows {
        t.eventually_answers(flow, P1, &format!("{which}, since the Service is there"))?;
    }
    for slice in endpoints() {
        t.apply(slice)?;
    }
    t.settled()?;
    send(&flows);
    for slice in endpoints() {
        t.apply(slice.ready_on(P3))?;
    }
    t.settled()?;
    for (which, flow) in &flows {
        t.eventually_answers(flow, P3, &format!("{which}, since it has an endpoint again"))?;
    }
    Ok(())
}

/// Connection tracking carries the flows of a process of the node and of a pod through a load
/// balancer's address, past IPVS.
fn a_socket_moves_to_another_endpoint(t: &mut TestContext<'_>) -> Step {
    t.apply(served("dev/other", "10.96.9.6", "203.0.113.96"))?;
    t.apply(slice("dev/other").ready_on(P1))?;
    t.settled()?;
    // Flows of a front end that comes go last: by the time that the next one is there, they have gone.
    t.apply(served("dev/led", "10.96.9.4", "203.0.113.94").local_external())?;
    t.apply(slice("dev/led").ready_on(P1))?;
    t.settled()?;

    let flows =
        [(N1, t.flow(N1, "203.0.113.94:80/udp")?), (P2, t.flow(P2, "203.0.113.94:80/udp")?)];
    let other = t.flow(N1, "203.0.113.96:80/udp")?;
    for (host, flow) in &flows {
        t.eventually_answers(flow, P1, &format!("{host}'s new socket"))?;
    }
    t.eventually_answers(&other, P1, "a socket to another Service")?;
    let entries = |t: &TestContext<'_>| t.host(N1).read("cat", &["/proc/net/nf_conntrack"]);
    let entry_of_other = format!("dst=203.0.113.96 sport={} ", other.port()?);
    let before = entries(t)?;
    t.check("connection tracking knows it", before.contains(&entry_of_other), &before)?;

    // The pod stays ready for the other Service, so only one Service's flows have to move.
    t.apply(slice("dev/led").ready_on(P3))?;
    t.settled()?;
    for (host, flow) in &flows {
        t.eventually_answers(flow, P3, &format!("{host}'s socket, whose endpoint has left"))?;
    }
    // Nothing was sent on it meanwhile, so an entry that is there was never deleted.
    let after = entries(t)?;
    t.check("connection tracking still knows it", after.contains(&entry_of_other), &after)?;
    t.eventually_answers(&other, P1, "the socket to another Service")
}

fn served(key: &str, cluster_ip: &str, load_balancer: &str) -> ServiceBuilder {
    service(key).cluster_ip(cluster_ip).load_balancer_ip(load_balancer).udp("udp", 80)
}

fn slice(key: &str) -> SliceBuilder {
    endpoints(key).udp("udp", 8080)
}
