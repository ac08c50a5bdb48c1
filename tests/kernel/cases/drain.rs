//! Endpoints that leave: whom they still serve, and for how long.

use kube_ipvs::model::Protocol::{Sctp, Tcp, Udp};

use super::{Case, case};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{Connection, Endpoints, Service, endpoints, service};
use crate::trial::{Failure, Step, Trial};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_terminating_endpoint_keeps_its_connections", |t| {
            t.apply(web("10.96.3.6"))?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.3.6:80/tcp")?;
            t.expect_answer(&mut open, "a new connection")?;
            t.apply(slice().draining(P1).ready(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.3.6:80/tcp", Answers::from(P3))?;
            t.expect_answer(&mut open, "the connection to the terminating endpoint").map(drop)
        }),
        case("an_endpoint_that_is_gone_keeps_its_connections", |t| {
            t.apply(web("10.96.3.7"))?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            let mut open = Vec::new();
            // A node has several addresses and tells an SCTP server all of them. To those that no
            // translation knows the server's heartbeats come straight, and are answered with an
            // abort: no such association lasts, drained or not.
            let clients = [(P2, "tcp"), (P2, "sctp"), (N1, "tcp"), (C, "tcp"), (C, "sctp")];
            for (client, protocol) in clients {
                open.push(leaving(t, client, &format!("10.96.3.7:80/{protocol}"))?);
            }
            t.apply(slice().ready(P3))?;
            t.settled()?;
            let moved = |t: &Trial<'_>| {
                ["tcp", "udp", "sctp"].into_iter().try_for_each(|protocol| {
                    t.expect(P2, &format!("10.96.3.7:80/{protocol}"), Answers::from(P3))
                })
            };
            moved(t)?;
            t.still_answer(&mut open)?;
            let status = t.run_to_end("status", &[])?;
            t.check("`status` names it as draining", status.contains("draining"), &status)?;
            // It comes back, and nothing is held against it.
            t.apply(slice().ready(P1).ready(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.3.7:80/tcp", Answers::from_all([P1, P3]))?;
            t.still_answer(&mut open)?;
            t.apply(slice().ready(P3))?;
            t.settled()?;
            moved(t)?;
            t.still_answer(&mut open)?;
            // Nor does the end of the agent change a thing.
            t.agent().stop()?;
            t.settled()?;
            t.still_answer(&mut open)
        }),
        case("the_last_endpoint_keeps_its_connections", |t| {
            t.apply(web("10.96.3.8"))?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            let to = "10.96.3.8:80/tcp";
            let open = [P2, N1, C].map(|client| leaving(t, client, to));
            let mut open = open.into_iter().collect::<Step<Vec<_>>>()?;
            t.apply(slice().not_ready(P1))?;
            t.settled()?;
            for client in [P2, N1, C] {
                t.expect(client, to, Refused)?;
            }
            t.still_answer(&mut open)?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            t.expect(P2, to, Answers::from(P1))?;
            t.still_answer(&mut open)
        }),
        case("one_without_connections_is_removed_soon", |t| {
            t.apply(web("10.96.3.9"))?;
            t.apply(slice().ready(P1).ready(P3))?;
            t.settled()?;
            t.apply(slice().ready(P3))?;
            t.eventually_held("P1 is gone", |ipvs| !ipvs.contains("10.244.1.11:"))
        }),
        case("a_drain_ends_at_its_deadline", |t| {
            // Long enough for a slow machine to see the connection alive.
            t.agent().configure("drainPeriod: 10s")?;
            t.apply(web("10.96.3.10"))?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            let mut open = [leaving(t, P2, "10.96.3.10:80/tcp")?];
            t.apply(slice().ready(P3))?;
            t.eventually_held("P1 has weight 0", |ipvs| {
                ipvs.contains("-a -t 10.96.3.10:80 -r 10.244.1.11:8080 -m -w 0")
            })?;
            t.still_answer(&mut open)?;
            t.eventually_held("P1 is gone", |ipvs| !ipvs.contains("10.244.1.11:"))?;
            ended(&mut open[0].1)
        }),
        case("without_a_drain_period_an_endpoint_goes_at_once", |t| {
            t.agent().configure("drainPeriod: 0s")?;
            t.apply(web("10.96.3.11"))?;
            t.apply(slice().ready(P1))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.3.11:80/tcp")?;
            t.expect_answer(&mut open, "a new connection")?;
            t.apply(slice().ready(P3))?;
            t.settled()?;
            for protocol in ["tcp", "udp", "sctp"] {
                t.expect(P2, &format!("10.96.3.11:80/{protocol}"), Answers::from(P3))?;
            }
            ended(&mut open)
        }),
    ]
}

/// A Service with a port of each protocol.
fn web(cluster_ip: &str) -> Service {
    let web = service("dev/drain").cluster_ip(cluster_ip);
    web.port(80, "tcp", Tcp).port(80, "udp", Udp).port(80, "sctp", Sctp)
}

fn slice() -> Endpoints {
    let slice = endpoints("dev/drain").port("tcp", 8080, Tcp);
    slice.port("udp", 8080, Udp).port("sctp", 8080, Sctp)
}

/// A connection to the endpoint that is going to leave.
fn leaving(t: &Trial<'_>, client: Host, to: &str) -> Step<(String, Connection)> {
    let which = format!("{client}'s connection to {to}, whose endpoint has left");
    Ok((which, t.connect(client, to)?))
}

fn ended(open: &mut Connection) -> Step {
    match open.ask() {
        Err(_) => Ok(()),
        Ok(reply) => {
            Err(Failure::new("ask over a connection to an endpoint that is gone", "an end", reply))
        }
    }
}
