//! Segments that connection tracking takes for no part of a connection, though they are. It
//! translates nothing in them; what becomes of them must not end the connection.

use std::net::SocketAddr;

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::lab::Host::{self, C, N1, N2, P1, P2, P3};
use crate::lab::{NODE_PORT_OF_DAEMON, POD_PORTS, Segments, endpoints, product, service};

/// ClusterIP, load balancer IP and node port of a Service, and the load balancer IP of one with
/// policy Local; who serves there.
const FRONT_ENDS: [(&str, Host); 8] = [
    ("10.96.3.41:80", P1),
    ("203.0.113.41:80", P1),
    ("192.168.50.1:31951", P1),
    ("[fd00:96::341]:80", P3),
    ("[2001:db8:113::41]:80", P3),
    ("[fd00:50::1]:31951", P3),
    ("203.0.113.42:80", P1),
    ("[2001:db8:113::42]:80", P1),
];

/// Which end of a connection sends it.
#[derive(Clone, Copy, Debug)]
enum Sender {
    Client,
    Server,
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_segment_beyond_the_window_ends_no_connection", |t| {
            let web = service("dev/stray").cluster_ip("10.96.3.41").cluster_ip("fd00:96::341");
            let web = web.load_balancer_ip("203.0.113.41").load_balancer_ip("2001:db8:113::41");
            t.apply(web.port("http", 80).node_port(31_951))?;
            let local = service("dev/astray").cluster_ip("10.96.3.42").cluster_ip("fd00:96::342");
            let local = local.load_balancer_ip("203.0.113.42").load_balancer_ip("2001:db8:113::42");
            t.apply(local.local_external().port("http", 80))?;
            for (name, family, pod) in [
                ("stray-v4", Family::V4, P1),
                ("stray-v6", Family::V6, P3),
                ("astray-v4", Family::V4, P1),
                ("astray-v6", Family::V6, P1),
            ] {
                let (key, _) = name.split_once('-').expect("NAME-FAMILY");
                let slice = endpoints(&format!("dev/{key}")).named(name).of_family(family);
                t.apply(slice.port("http", POD_PORTS[0]).ready_on(pod))?;
            }
            t.settled()?;
            for (client, (to, pod)) in product([C, P2, N1], FRONT_ENDS) {
                for sender in [Sender::Client, Sender::Server] {
                    outlives_a_segment_of(t, sender, client, to, pod)?;
                }
            }
            Ok(())
        }),
        case("a_segment_beyond_the_window_passes_where_no_service_is", |t| {
            let shared = service("dev/stray").cluster_ip("10.96.3.41").cluster_ip("fd00:96::341");
            let [v4, v6] = Family::BOTH.map(|family| N2.ip(family).to_string());
            t.apply(shared.load_balancer_ip(&v4).load_balancer_ip(&v6).port("http", 80))?;
            t.apply(endpoints("dev/stray").port("http", POD_PORTS[0]).ready_on(P3))?;
            t.settled()?;
            for family in Family::BOTH {
                let at_client = Segments::listen(t.host(P2), family)?;
                let at_server = Segments::listen(t.host(N2), family)?;
                let to = SocketAddr::new(N2.ip(family), NODE_PORT_OF_DAEMON);
                let mut connection = t.connect(P2, &format!("{to}/tcp"))?;
                t.expect_answer(&mut connection, "a pod's connection to another node")?;
                at_client.send_beyond_the_window(connection.local_addr()?, to)?;
                patiently(LONG_PATIENCE, || {
                    let has_arrived = at_server.has_single_byte(to.port());
                    t.check("the segment arrives", has_arrived, to)
                })?;
            }
            Ok(())
        }),
    ]
}

/// One end of a connection sends a segment beyond the other end's window. Neither end may be told
/// that the connection is over.
fn outlives_a_segment_of(
    t: &TestContext<'_>,
    sender: Sender,
    client: Host,
    to: &str,
    pod: Host,
) -> Step {
    let family = if to.starts_with('[') { Family::V6 } else { Family::V4 };
    let at_client = Segments::listen(t.host(client), family)?;
    let at_server = Segments::listen(t.host(pod), family)?;
    let which = format!("{client}'s connection to {to}");
    let mut connection = t.connect(client, &format!("{to}/tcp"))?;
    let seen = t.expect_answer(&mut connection, &which)?.client;
    let own = connection.local_addr()?;
    let server = SocketAddr::new(pod.ip(family), POD_PORTS[0]);
    match sender {
        Sender::Client => at_client.send_beyond_the_window(own, to.parse().expect("an address"))?,
        Sender::Server => at_server.send_beyond_the_window(server, seen)?,
    }
    t.expect_answer(&mut connection, &format!("{which}, after the segment of its {sender:?}"))?;
    // From any other address than the other end's, a reset tells an end nothing.
    for (end, segments, other, port) in [
        ("client", at_client, to.parse().expect("an address"), own.port()),
        ("server", at_server, seen, server.port()),
    ] {
        let step = format!("no reset for the {end} of {which} by one of its {sender:?}");
        if let Some(reset) = segments.reset(other, port) {
            return Err(Failure::new(step, "none", reset));
        }
    }
    Ok(())
}
