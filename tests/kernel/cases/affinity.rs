//! Session affinity: a client stays with its endpoint, at each front end.

use std::collections::BTreeSet;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{ServiceBuilder, SliceBuilder, endpoints_of_both, product, service};

/// ClusterIP, external and load balancer IP, and node port.
const FRONT_ENDS: [&str; 8] = [
    "10.96.9.3:80",
    "198.51.100.93:80",
    "203.0.113.93:80",
    "192.168.50.1:31942",
    "[fd00:96::903]:80",
    "[2001:db8:51::93]:80",
    "[2001:db8:113::93]:80",
    "[fd00:50::1]:31942",
];
/// Of each client, at each front end: more than there are endpoints.
const REQUESTS: usize = 4;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_client_stays_with_its_endpoint", |t| {
            t.apply(affine(web(), 600))?;
            apply_slices(t, |slice| slice.ready_on(P1).ready_on(P3).ready_on(P4))?;
            t.settled()?;
            let ipvs = t.kernel()?.ipvs;
            let persistent = ipvs.lines().filter(|line| line.ends_with("-p 600")).count();
            // IPv6 servers have a netmask of their own, which ipvsadm prints after the timeout.
            let persistent6 = ipvs.lines().filter(|line| line.contains("-p 600 -M 128")).count();
            t.equal("virtual servers with the timeout", 4, persistent + persistent6)?;
            for (front_end, protocol) in product(FRONT_ENDS, ["tcp", "udp"]) {
                stays(t, C, &format!("{front_end}/{protocol}"))?;
            }
            let mut met = BTreeSet::new();
            for client in [C, P2, N1] {
                met.insert(stays(t, client, "10.96.9.3:80/tcp")?);
            }
            t.check("clients go to different endpoints", met.len() > 1, format!("{met:?}"))
        }),
        case("affinity_changes_while_it_is_used", |t| {
            t.apply(web())?;
            apply_slices(t, |slice| slice.ready_on(P1).ready_on(P3).ready_on(P4))?;
            t.settled()?;
            let all = || Answers::from_all([P1, P3, P4]);
            t.expect(C, "10.96.9.3:80/tcp", all())?;
            for timeout in [300, 86_400] {
                t.apply(affine(web(), timeout))?;
                t.settled()?;
                let ipvs = t.kernel()?.ipvs;
                t.check(
                    &format!("a timeout of {timeout} s"),
                    ipvs.contains(&format!("-A -t 10.96.9.3:80 -s rr -p {timeout}\n")),
                    &ipvs,
                )?;
                stays(t, C, "10.96.9.3:80/tcp")?;
            }
            t.apply(web())?;
            t.settled()?;
            t.expect(C, "10.96.9.3:80/tcp", all())?;
            let ipvs = t.kernel()?.ipvs;
            t.check("no timeout", !ipvs.contains(" -p "), &ipvs)
        }),
        case("an_endpoint_that_drains_lets_its_clients_go", |t| {
            t.apply(affine(web(), 10_800))?;
            apply_slices(t, |slice| slice.ready_on(P1).ready_on(P3))?;
            t.settled()?;
            for (front_end, protocol) in
                product(["10.96.9.3:80", "203.0.113.93:80"], ["tcp", "udp"])
            {
                let to = format!("{front_end}/{protocol}");
                let first = stays(t, C, &to)?;
                let other = if first == P1 { P3 } else { P1 };
                let mut open = (protocol == "tcp").then(|| t.connect(C, &to)).transpose()?;
                if let Some(open) = &mut open {
                    t.expect_answer(open, "a new connection")?;
                }
                apply_slices(t, |slice| slice.terminating_on(first).ready_on(other))?;
                t.settled()?;
                t.expect(C, &to, Answers::from(other))?;
                if let Some(open) = &mut open {
                    t.expect_answer(open, "the connection to the endpoint that drains")?;
                }
                apply_slices(t, |slice| slice.ready_on(P1).ready_on(P3))?;
                t.settled()?;
                t.equal("who serves after the drain", other, stays(t, C, &to)?)?;
            }
            Ok(())
        }),
    ]
}

fn web() -> ServiceBuilder {
    let web = service("dev/affine").cluster_ip("10.96.9.3").cluster_ip("fd00:96::903");
    let web = web.port("tcp", 80).node_port(31_942).udp("udp", 80).node_port(31_942);
    let web = web.load_balancer_ip("203.0.113.93").load_balancer_ip("2001:db8:113::93");
    web.external_ip("198.51.100.93").external_ip("2001:db8:51::93")
}

fn affine(web: ServiceBuilder, timeout: u32) -> ServiceBuilder {
    web.affinity(timeout)
}

fn apply_slices(t: &mut TestContext<'_>, endpoint: impl Fn(SliceBuilder) -> SliceBuilder) -> Step {
    for slice in endpoints_of_both("dev/affine") {
        t.apply(endpoint(slice.port("tcp", 8080).udp("udp", 8080)))?;
    }
    Ok(())
}

/// A client asks over new connections and meets one endpoint, which is returned.
fn stays(t: &TestContext<'_>, client: Host, to: &str) -> Step<Host> {
    let server = t.ask(client, to)?.server;
    for _ in 1..REQUESTS {
        let again = t.ask(client, to)?.server;
        t.equal(&format!("{client} asks {to} again"), server, again)?;
    }
    Ok(server)
}
