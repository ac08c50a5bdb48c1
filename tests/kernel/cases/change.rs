//! Services that change while traffic flows.

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{SliceBuilder, endpoints, service};

/// Requests that clients make between two changes.
const BETWEEN: usize = 10;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("scaling_fails_no_request", scaling_fails_no_request),
        case("changes_of_other_services_cost_no_connection", |t| {
            t.apply(service("dev/steady").cluster_ip("10.96.3.2").port("http", 80))?;
            t.apply(endpoints("dev/steady").port("http", 8080).ready_on(P1).ready_on(P3))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.3.2:80/tcp")?;
            let loads = [P2, N1, C].map(|client| t.load(client, "10.96.3.2:80/tcp"));
            let other = || service("dev/fickle").cluster_ip("10.96.3.3").port("http", 80);
            let slice = || endpoints("dev/fickle").port("http", 8080);
            for load in &loads {
                t.apply(other())?;
                t.apply(slice().ready_on(P4))?;
                t.settled()?;
                t.expect(P2, "10.96.3.3:80/tcp", Answers::from(P4))?;
                t.apply(slice().ready_on(P1).ready_on(P4))?;
                t.apply(other().udp("more", 81))?;
                t.settled()?;
                t.delete(other())?;
                t.delete(slice())?;
                t.settled()?;
                load.wait_for(BETWEEN);
            }
            for load in loads {
                t.expect_no_failure(load)?;
            }
            t.expect_answer(&mut open, "the connection opened before").map(drop)
        }),
        case("deleted_and_created_again", |t| {
            let web = || service("dev/again").cluster_ip("10.96.3.4").cluster_ip("fd00:96::304");
            let web = || web().port("http", 80).udp("udp", 80);
            let slice = || endpoints("dev/again").port("http", 8080).udp("udp", 8080);
            for _ in 0..2 {
                t.apply(web())?;
                t.apply(slice().ready_on(P3))?;
                t.settled()?;
                for client in [P2, N1, C] {
                    t.expect(client, "10.96.3.4:80/tcp", Answers::from(P3))?;
                    t.expect(client, "10.96.3.4:80/udp", Answers::from(P3))?;
                }
                // The slice outlives its Service for a moment, as it does in a cluster.
                t.delete(web())?;
                t.eventually_held("nothing is left in IPVS", str::is_empty)?;
                t.delete(slice())?;
            }
            Ok(())
        }),
        case("a_port_that_changes_its_number", |t| {
            let web = || service("dev/moved").cluster_ip("10.96.3.5");
            t.apply(web().port("http", 80))?;
            t.apply(endpoints("dev/moved").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.3.5:80/tcp", Answers::from(P1).on_port(8080))?;
            t.apply(endpoints("dev/moved").port("http", 9090).ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.3.5:80/tcp", Answers::from(P1).on_port(9090))?;
            t.apply(web().port("http", 8000))?;
            t.settled()?;
            t.expect(P2, "10.96.3.5:8000/tcp", Answers::from(P1).on_port(9090))?;
            t.expect(P2, "10.96.3.5:80/tcp", Refused)
        }),
    ]
}

/// Clients of all kinds ask while endpoints come and go; one that goes is terminating first, as a
/// pod is that is told to end.
fn scaling_fails_no_request(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/scale").cluster_ip("10.96.3.1");
    t.apply(web.port("http", 80).udp("udp", 80))?;
    let slice = || endpoints("dev/scale").port("http", 8080).udp("udp", 8080);
    t.apply(slice().ready_on(P1))?;
    t.settled()?;
    let clients = [(P2, "tcp"), (N1, "tcp"), (C, "tcp"), (P2, "udp")];
    let loads =
        clients.map(|(client, protocol)| t.load(client, &format!("10.96.3.1:80/{protocol}")));
    let steps: [fn(SliceBuilder) -> SliceBuilder; 6] = [
        |slice| slice.ready_on(P1).ready_on(P3),
        |slice| slice.ready_on(P1).ready_on(P2).ready_on(P3).ready_on(P4),
        |slice| slice.terminating_on(P1).terminating_on(P2).ready_on(P3).ready_on(P4),
        |slice| slice.terminating_on(P3).ready_on(P4),
        |slice| slice.ready_on(P4),
        |slice| slice.ready_on(P1).ready_on(P4),
    ];
    for step in steps {
        t.apply(step(slice()))?;
        t.settled()?;
        loads[0].wait_for(BETWEEN);
        // A pod that is told to end answers what it was asked before.
        loads.iter().for_each(|load| load.wait_for(2));
    }
    let [pod, node, outside, datagrams] = loads;
    for load in [pod, node, outside] {
        t.expect_no_failure(load)?;
    }
    // A flow that loses its endpoint moves at the price of a datagram, and three endpoints left.
    t.expect_lost_at_most(datagrams, 3)?;
    t.expect(P2, "10.96.3.1:80/tcp", Answers::from_all([P1, P4]))
}
