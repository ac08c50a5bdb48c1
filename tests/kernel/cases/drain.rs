//! Endpoints that drain: which connections they still serve, and for how long.

use std::time::Duration;

use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{Connection, ServiceBuilder, Silence, SliceBuilder, endpoints, product, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_terminating_endpoint_keeps_its_connections", |t| {
            t.apply(web("10.96.3.6"))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.3.6:80/tcp")?;
            t.expect_answer(&mut open, "a new connection")?;
            t.apply(slice().terminating_on(P1).ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.3.6:80/tcp", Answers::from(P3))?;
            t.expect_answer(&mut open, "the connection to the terminating endpoint").map(drop)
        }),
        case("an_endpoint_that_is_gone_keeps_its_connections", |t| {
            t.apply(web("10.96.3.7"))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = Vec::new();
            // A node has several addresses and tells an SCTP server all of them. To those that no
            // translation knows the server's heartbeats come straight, and are answered with an
            // abort: no such association lasts, drained or not.
            let clients = [(P2, "tcp"), (P2, "sctp"), (N1, "tcp"), (C, "tcp"), (C, "sctp")];
            for (client, protocol) in clients {
                open.push(leaving(t, client, &format!("10.96.3.7:80/{protocol}"))?);
            }
            t.apply(slice().ready_on(P3))?;
            t.settled()?;
            let moved = |t: &TestContext<'_>| {
                ["tcp", "udp", "sctp"].into_iter().try_for_each(|protocol| {
                    t.expect(P2, &format!("10.96.3.7:80/{protocol}"), Answers::from(P3))
                })
            };
            moved(t)?;
            t.still_answer(&mut open)?;
            let status = t.run_to_end("status", &[])?;
            t.check("`status` names it as draining", status.contains("draining"), &status)?;
            // It comes back, and nothing is held against it.
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.3.7:80/tcp", Answers::from_all([P1, P3]))?;
            t.still_answer(&mut open)?;
            t.apply(slice().ready_on(P3))?;
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
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let to = "10.96.3.8:80/tcp";
            let open = [P2, N1, C].map(|client| leaving(t, client, to));
            let mut open = open.into_iter().collect::<Step<Vec<_>>>()?;
            t.apply(slice().not_ready_on(P1))?;
            t.settled()?;
            for client in [P2, N1, C] {
                t.expect(client, to, Refused)?;
            }
            t.still_answer(&mut open)?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(P2, to, Answers::from(P1))?;
            t.still_answer(&mut open)
        }),
        case("a_policy_that_changes_ends_no_connection", |t| {
            t.agent().configure("drainPeriod: 5s")?;
            let local = || everywhere().local_external();
            t.apply(local())?;
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            t.settled()?;
            let mut open = Vec::new();
            for to in &FRONT_ENDS[1..] {
                open.push(leaving(t, C, to)?);
            }
            // The endpoint stays, in another pool than the one that the connections came by.
            t.apply(everywhere())?;
            t.settled()?;
            t.eventually_held("the pool of the other policy is gone", |ipvs| {
                !ipvs.contains("250.")
            })?;
            t.settled()?;
            t.still_answer(&mut open)
        }),
        case("source_ranges_that_narrow_end_no_connection", |t| {
            let open_to = |ranges: &[&str]| everywhere().spec("loadBalancerSourceRanges", ranges);
            t.apply(open_to(&["192.168.50.0/24", "10.244.0.0/16"]))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let to = FRONT_ENDS[1];
            let mut open = Vec::new();
            for client in CLIENTS {
                open.push((
                    format!("{client}'s, who may not ask any more"),
                    t.connect(client, to)?,
                ));
            }
            t.apply(open_to(&["192.0.2.0/24"]))?;
            t.settled()?;
            for client in CLIENTS {
                t.expect(client, to, Silent)?;
                t.expect(client, FRONT_ENDS[2], Answers::from(P1))?;
            }
            t.still_answer(&mut open)
        }),
        case("a_flush_of_connection_tracking_resets_what_it_translated", |t| {
            t.apply(everywhere())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut ended = open_everywhere(t)?;
            // The first one is neither carried nor masqueraded: it depends on IPVS alone.
            let (_, mut kept) = ended.remove(0);
            t.host(N1).read("conntrack", &["-F"])?;
            have_ended(&mut ended, AT_ONCE)?;
            t.expect_answer(&mut kept, "a pod's connection to the ClusterIP")?;
            t.expect(C, FRONT_ENDS[1], Answers::from(P1))
        }),
        case("an_endpoint_without_connections_is_removed_soon", |t| {
            t.apply(web("10.96.3.9"))?;
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            t.settled()?;
            t.apply(slice().ready_on(P3))?;
            t.eventually_held("P1 is gone", |ipvs| !ipvs.contains("10.244.1.11:"))
        }),
        case("connections_through_every_front_end_drain_alike", |t| drain_alike(t, &BY_DEFAULT)),
        case("a_front_end_that_is_deleted_drains", |t| deleted(t, &BY_DEFAULT)),
        case("an_address_that_is_taken_away_drains_and_may_come_back", |t| {
            t.apply(everywhere())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = open_everywhere(t)?;
            t.apply(web("10.96.3.12"))?;
            t.settled()?;
            t.expect(P2, FRONT_ENDS[0], Answers::from(P1))?;
            for (client, to) in product([P2, N1, C], &FRONT_ENDS[1..]) {
                t.expect(client, to, Refused)?;
            }
            t.still_answer(&mut open)?;
            t.apply(everywhere())?;
            t.settled()?;
            for (client, to) in product(CLIENTS, FRONT_ENDS) {
                t.expect(client, to, Answers::from(P1))?;
            }
            t.still_answer(&mut open)?;
            drop(open);
            t.apply(web("10.96.3.12"))?;
            let is_left = |nft: &str| nft.contains("203.0.113.39") || nft.contains("31961");
            patiently(LONG_PATIENCE, || {
                let nft = t.kernel()?.nft;
                t.check("what has no connection left is gone", !is_left(&nft), nft)
            })
        }),
        case("a_node_port_and_a_node_s_own_address_take_over_from_each_other", |t| {
            let web = || service("dev/drain").cluster_ip("10.96.3.13");
            let to = "192.168.50.1:31962/tcp";
            let node_port = || web().port("tcp", 80).node_port(31_962);
            let own_address = || web().port("tcp", 31_962).load_balancer_ip("192.168.50.1");
            let restricted =
                || own_address().source_range("192.168.50.0/24").source_range("10.0.0.0/8");
            let local = || own_address().local_external();
            t.apply(node_port())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = Vec::new();
            for taken_over in [restricted(), node_port(), local(), node_port()] {
                for client in CLIENTS {
                    open.push((
                        format!("{client}'s connection from before"),
                        t.connect(client, to)?,
                    ));
                }
                t.apply(taken_over)?;
                t.settled()?;
                for client in CLIENTS {
                    t.expect(client, to, Answers::from(P1))?;
                }
                t.still_answer(&mut open)?;
            }
            Ok(())
        }),
        case("source_ranges_hold_beside_a_node_port_with_the_same_number", |t| {
            let web = service("dev/drain").cluster_ip("10.96.3.14").port("tcp", 31_963);
            let web = web.node_port(31_963).load_balancer_ip("192.168.50.1");
            let web = web.source_range("10.0.0.0/8");
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            for web in [web.clone(), web.local_external()] {
                t.apply(web)?;
                t.settled()?;
                t.expect(C, "192.168.50.1:31963/tcp", Silent)?;
                t.expect(P2, "192.168.50.1:31963/tcp", Answers::from_all([P1, P3]))?;
            }
            Ok(())
        }),
        case("without_a_drain_period_connections_end_at_once", |t| {
            t.agent().configure("drainPeriod: 0s")?;
            t.apply(everywhere())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = open_everywhere(t)?;
            t.apply(slice().ready_on(P3))?;
            t.eventually_held("P1 is gone", |ipvs| {
                !ipvs.contains("-t 10.96.3.12:80 -r 10.244.1.11:")
            })?;
            t.settled()?;
            for to in FRONT_ENDS {
                t.expect(P2, to, Answers::from(P3))?;
            }
            have_ended(&mut open, AT_ONCE)
        }),
        case("datagrams_move_at_once_at_every_front_end", |t| datagrams_move(t, &BY_DEFAULT)),
    ]
}

/// Connections to an endpoint that leaves, through every front end of a pool.
pub(super) fn drain_alike(t: &mut TestContext<'_>, manner: &Manner) -> Step {
    let mut open = opened(t, manner)?;
    t.apply(slice().ready_on(P3))?;
    t.eventually_held("P1 has weight 0", |ipvs| {
        ipvs.contains(&format!("-a -t {} -r 10.244.1.11:8080 -m -w 0", manner.pool))
    })?;
    for to in FRONT_ENDS {
        t.expect(C, to, Answers::from(P3))?;
    }
    t.still_answer(&mut open)?;
    t.eventually_held("P1 is gone", |ipvs| !ipvs.contains("10.244.1.11:"))?;
    // Its connections' entries in connection tracking go after it.
    t.settled()?;
    have_ended(&mut open, manner.lag)
}

/// A connection of each client through each front end, carried like that.
fn opened(t: &mut TestContext<'_>, manner: &Manner) -> Step<Vec<(String, Connection)>> {
    // Long enough for a slow machine to see the connections alive.
    t.agent().configure(&format!("drainPeriod: 10s\n{}", manner.options))?;
    t.apply(everywhere())?;
    t.apply(slice().ready_on(P1))?;
    t.settled()?;
    let mut open = open_everywhere(t)?;
    manner.are_carried(t, open.len(), || t.still_answer(&mut open))?;
    Ok(open)
}

/// The same of front ends that go.
pub(super) fn deleted(t: &mut TestContext<'_>, manner: &Manner) -> Step {
    let mut open = opened(t, manner)?;
    t.delete(everywhere())?;
    t.settled()?;
    // No new connection from this moment on, whatever still runs.
    for (client, to) in product(CLIENTS, FRONT_ENDS) {
        t.expect(client, to, Refused)?;
    }
    t.still_answer(&mut open)?;
    t.eventually_held("its pool is gone", |ipvs| !ipvs.contains(manner.pool))?;
    t.settled()?;
    have_ended(&mut open, manner.lag)
}

/// UDP sockets of every client at every front end, whose endpoint leaves.
pub(super) fn datagrams_move(t: &mut TestContext<'_>, manner: &Manner) -> Step {
    t.agent().configure(manner.options)?;
    t.apply(everywhere())?;
    t.apply(slice().ready_on(P1))?;
    t.settled()?;
    let mut flows = Vec::new();
    for (client, to) in product(CLIENTS, FRONT_ENDS) {
        let to = to.replace("/tcp", "/udp");
        let flow = t.flow(client, &to)?;
        t.eventually_answers(&flow, P1, &format!("{client}'s socket to {to}"))?;
        flows.push((client, to, flow));
    }
    let all_answer = || {
        let mut answers = flows.iter().map(|(client, to, flow)| (client, to, flow.ask()));
        answers.try_for_each(|(client, to, answer)| {
            t.check(&format!("{client}'s socket to {to}"), answer.is_ok(), format!("{answer:?}"))
        })
    };
    manner.are_carried(t, flows.len(), all_answer)?;
    t.apply(slice().ready_on(P3))?;
    t.settled()?;
    for (client, to, flow) in &flows {
        t.eventually_answers(flow, P3, &format!("{client}'s old socket to {to}"))?;
    }
    Ok(())
}

/// How a node carries the connections of these cases.
pub(super) struct Manner {
    /// Options of our own.
    pub(super) options: &'static str,
    /// Where the pool of TCP stands.
    pub(super) pool: &'static str,
    /// How long after that is gone a connection may go on.
    pub(super) lag: Duration,
    /// Whether a flowtable carries what does not begin or end at the node.
    pub(super) offloads: bool,
}

const BY_DEFAULT: Manner =
    Manner { options: "", pool: "10.96.3.12:80", lag: AT_ONCE, offloads: false };
const AT_ONCE: Duration = Duration::ZERO;

impl Manner {
    /// Exchanges something over so many connections of [`CLIENTS`] until they are carried like that.
    pub(super) fn are_carried(
        &self,
        t: &TestContext<'_>,
        connections: usize,
        mut exchange: impl FnMut() -> Step,
    ) -> Step {
        if !self.offloads {
            return Ok(());
        }
        let offloaded = connections * (CLIENTS.len() - 1) / CLIENTS.len();
        patiently(LONG_PATIENCE, || {
            exchange()?;
            let tracked = t.host(N1).read("cat", &["/proc/net/nf_conntrack"])?;
            t.equal("offloaded connections", offloaded, tracked.matches("[OFFLOAD]").count())
        })
    }
}

/// A pod, a process of the node, and an external client.
const CLIENTS: [Host; 3] = [P2, N1, C];
/// ClusterIP, load balancer IP, external IP and node port.
const FRONT_ENDS: [&str; 4] =
    ["10.96.3.12:80/tcp", "203.0.113.39:80/tcp", "198.51.100.39:80/tcp", "192.168.50.1:31961/tcp"];

/// The Service with every kind of front end.
fn everywhere() -> ServiceBuilder {
    let web = service("dev/drain").cluster_ip("10.96.3.12").load_balancer_ip("203.0.113.39");
    let web = web.external_ip("198.51.100.39");
    let web = web.port("tcp", 80).node_port(31_961).udp("udp", 80).node_port(31_961);
    web.sctp("sctp", 80)
}

/// A connection of each client through each front end.
fn open_everywhere(t: &TestContext<'_>) -> Step<Vec<(String, Connection)>> {
    product(CLIENTS, FRONT_ENDS).map(|(client, to)| leaving(t, client, to)).collect()
}

/// A Service with a port of each protocol.
fn web(cluster_ip: &str) -> ServiceBuilder {
    let web = service("dev/drain").cluster_ip(cluster_ip);
    web.port("tcp", 80).udp("udp", 80).sctp("sctp", 80)
}

fn slice() -> SliceBuilder {
    let slice = endpoints("dev/drain").port("tcp", 8080);
    slice.udp("udp", 8080).sctp("sctp", 8080)
}

/// A connection to the endpoint that is going to leave.
fn leaving(t: &TestContext<'_>, client: Host, to: &str) -> Step<(String, Connection)> {
    let which = format!("{client}'s connection to {to}, whose endpoint has left");
    Ok((which, t.connect(client, to)?))
}

/// Their clients are told by their next segment, once `lag` has passed.
pub(super) fn have_ended(open: &mut [(String, Connection)], lag: Duration) -> Step {
    open.iter_mut().try_for_each(|(which, open)| {
        patiently(lag, || match open.ask() {
            Err(Silence::Reset) => Ok(()),
            Err(other) => Err(Failure::new(&which, "a reset", other)),
            Ok(reply) => Err(Failure::new(&which, "a reset", reply)),
        })
    })
}
