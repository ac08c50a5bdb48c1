//! A configuration file that changes while clients ask.

use std::fs;
use std::io;

use kube_ipvs::client::AgentClient;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{endpoints, service};

/// Requests that clients make after the last change.
const AFTERWARDS: usize = 10;

pub(crate) fn cases() -> Vec<Case> {
    vec![case("a_changed_configuration_applies_and_costs_no_request", |t| {
        let web =
            service("dev/configured").cluster_ip("10.96.10.60").load_balancer_ip("203.0.113.160");
        t.apply(web.port("tcp", 80).udp("udp", 80))?;
        let slice = endpoints("dev/configured").port("tcp", 8080).udp("udp", 8080);
        t.apply(slice.ready_on(P1).ready_on(P3))?;
        t.agent().configure("drainPeriod: 5m")?;
        t.settled()?;
        let pid = t.agent().pid()?;
        let mut open = t.connect(P2, "10.96.10.60:80/tcp")?;
        let loads = [
            t.steady_load(P2, "10.96.10.60:80/tcp"),
            t.steady_load(N1, "10.96.10.60:80/udp"),
            t.steady_load(C, "203.0.113.160:80/tcp"),
        ];
        let before = t.kernel()?.to_string();
        let notifications = t.notifications()?;

        t.agent().reconfigure("drainPeriod: 5m", "metricsBindAddress: 127.0.0.1:10300")?;
        until_synced(t, 2)?;
        patiently(LONG_PATIENCE, || answers(t, 10300))?;
        t.check("the old address is closed", answers(t, 10249).is_err(), "it answers")?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        t.equal("the process", "kube-ipvs", name.trim_end())?;
        let log = t.agent().log();
        let synced = log.lines().rfind(|line| line.contains("synced ")).unwrap_or_default();
        t.check("nothing is written", synced.contains(" operations=0 "), synced)?;
        t.check("nothing is changed", notifications.count() == (0, 0), "notifications")?;
        t.same_lines("the kernel's state", &before, &t.kernel()?.to_string())?;

        t.agent().reconfigure("drainPeriod: 5m", "ipvs: {scheduler: fast}")?;
        t.agent().wait_for_log("ConfigurationInvalid")?;
        answers(t, 10300)?;
        t.check("nothing is changed", notifications.count() == (0, 0), "notifications")?;
        t.same_lines("the kernel's state", &before, &t.kernel()?.to_string())?;

        t.expect(P2, "10.96.10.60:80/tcp", Answers::from_all([P1, P3]).to(P2))?;
        t.agent().reconfigure("drainPeriod: 5m", "iptables: {masqueradeAll: true}")?;
        until_synced(t, 3)?;
        t.expect(P2, "10.96.10.60:80/tcp", Answers::from_all([P1, P3]).to(N1))?;
        loads.iter().for_each(|load| load.wait_for(AFTERWARDS));
        t.expect_answer(&mut open, "a connection from before")?;
        loads.into_iter().try_for_each(|load| t.expect_no_failure(load))
    })]
}

/// Waits until the agent has synced so many times in all.
fn until_synced(t: &mut TestContext<'_>, times: usize) -> Step {
    patiently(LONG_PATIENCE, || {
        let log = t.agent().log();
        let synced = log.lines().filter(|line| line.contains("synced ")).count();
        t.check("the agent has started again", synced == times, &log)
    })
}

/// Whether the agent answers at a port.
fn answers(t: &TestContext<'_>, port: u16) -> Step {
    let client = AgentClient::new(([127, 0, 0, 1], port).into());
    let answer = t.host(N1).inside(|| client.get("/configz").map_err(io::Error::other));
    Ok(answer.map(drop)?)
}
