//! Every scheduler of IPVS can be asked for, and clients with few ports reach every endpoint.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{self, C, P1, P2, P3, P4};
use crate::lab::{PATIENCE, ask_from_port, endpoints, service};

const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("clients_with_few_ports_reach_an_endpoint_that_is_added", |t| {
            let web = service("dev/few").cluster_ip("10.96.9.9").load_balancer_ip("203.0.113.199");
            t.apply(web.port("http", 80))?;
            let slice = || endpoints("dev/few").port("http", 8080).ready_on(P1).ready_on(P3);
            t.apply(slice())?;
            t.settled()?;
            for to in ["203.0.113.199:80/tcp", "10.96.9.9:80/tcp"] {
                t.apply(slice())?;
                t.settled()?;
                let before = answered(t, to, 50)?;
                t.apply(slice().ready_on(P4))?;
                t.settled()?;
                // A carried connection ends in FIN_WAIT for IPVS, from where the same port of the
                // client goes to the same endpoint.
                let at_once = answered(t, to, 50)?;
                // The default of `ipvs.tcpFinTimeout`, and what the kernel's timers take.
                thread::sleep(Duration::from_secs(12));
                let after = answered(t, to, 1)?;
                println!("{to}: {before:?}, then {at_once:?} at once, {after:?} after a pause");
                t.check(
                    "the new endpoint has a share",
                    after.contains_key(&P4),
                    format!("{after:?}"),
                )?;
            }
            Ok(())
        }),
        case("every_scheduler", |t| {
            t.apply(service("dev/scheduled").cluster_ip("10.96.9.8").port("http", 80))?;
            // One endpoint, which whatever a scheduler prefers has to be.
            t.apply(endpoints("dev/scheduled").port("http", 8080).ready_on(P1))?;
            for scheduler in SCHEDULERS {
                t.agent().configure_proxy(&format!("ipvs: {{scheduler: {scheduler}}}"))?;
                // Its first sync is enough, and much quicker than asking `plan`.
                t.agent().start()?;
                let ipvs = t.kernel()?.ipvs;
                let line = format!("-A -t 10.96.9.8:80 -s {scheduler}");
                t.check(
                    &line,
                    ipvs.lines().any(|it| it == line || it.starts_with(&format!("{line} "))),
                    &ipvs,
                )?;
                let reply = t.ask(P2, "10.96.9.8:80/tcp")?;
                t.check("an answer", Answers::from(P1).accept(&reply), reply)?;
            }
            Ok(())
        }),
    ]
}

/// A balancer's source ports. The lab's other clients have others.
const PORTS: RangeInclusive<u16> = 40_001..=40_010;

/// How often each endpoint answers connections from each of the ports, one after another.
fn answered(t: &TestContext<'_>, to: &str, times: usize) -> Step<BTreeMap<Host, usize>> {
    let mut answers = BTreeMap::new();
    let address = to.parse().expect("a front end");
    for port in (0..times).flat_map(|_| PORTS) {
        // The port is taken for a moment where the client has closed before the server.
        let reply = patiently(LONG_PATIENCE, || {
            t.host(C).inside(|| ask_from_port(port, address, PATIENCE)).map_err(|silence| {
                Failure::new(format!("C asks {to} from port {port}"), "an answer", silence)
            })
        })?;
        *answers.entry(reply.server).or_default() += 1;
    }
    Ok(answers)
}
