//! A policy rule makes every new connection of the node dearer, so ours are there only for Services
//! that have load balancer or external IPs.

use kube_ipvs::model::Protocol::Tcp;

use super::{Case, case};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P2, P3};
use crate::lab::{Service, endpoints_of_both, service};
use crate::trial::{Failure, LONG_PATIENCE, Step, Trial, patiently};

/// As an older version left it, and as somebody else may have it beside ours.
const OURS: &str = "not iif lo lookup 7575 pref 75 protocol 75";
const ANOTHERS: &str = "not iif lo lookup 7575 pref 75 protocol static";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("policy_rules_come_and_go_with_load_balancers", |t| {
            inner_alone(t)?;
            let both = inner().ingress("203.0.113.150").ingress("2001:db8:113::150");
            let external = || service("dev/external").cluster_ip("10.96.9.51");
            let external = || external().with("externalIPs", vec!["198.51.100.151"]);
            t.apply(inner().ingress("203.0.113.150"))?;
            expect_rules(t, [1, 0])?;
            t.expect(C, "203.0.113.150:80/tcp", Answers::from(P3))?;
            t.apply(both)?;
            t.apply(external().port(80, "http", Tcp))?;
            expect_rules(t, [1, 1])?;
            t.expect(C, "203.0.113.150:80/tcp", Answers::from(P3))?;
            t.expect(C, "[2001:db8:113::150]:80/tcp", Answers::from(P3))?;
            let load = t.load(P2, "10.96.9.50:80/tcp");
            t.apply(inner())?;
            expect_rules(t, [1, 0])?;
            t.delete(external())?;
            expect_rules(t, [0, 0])?;
            load.wait_for(5);
            t.expect_no_failure(load)?;
            t.expect(C, "10.96.9.50:80/tcp", Answers::from(P3))
        }),
        case("policy_rules_that_nobody_needs_go", |t| {
            inner_alone(t)?;
            t.agent().stop()?;
            for family in ["-4", "-6"] {
                rule(t, family, "add", OURS)?;
                rule(t, family, "add", ANOTHERS)?;
            }
            expect_rules(t, [0, 0])?;
            // While it runs, it hears of one.
            rule(t, "-6", "add", OURS)?;
            patiently(LONG_PATIENCE, || expect_held(t, [0, 0]))?;
            for family in ["-4", "-6"] {
                rule(t, family, "delete", ANOTHERS)?;
            }
            t.expect(P2, "[fd00:96::950]:80/tcp", Answers::from(P3))
        }),
    ]
}

fn inner() -> Service {
    let inner = service("dev/inner").cluster_ip("10.96.9.50").cluster_ip("fd00:96::950");
    inner.port(80, "http", Tcp)
}

/// A Service that needs no rule.
fn inner_alone(t: &mut Trial<'_>) -> Step {
    t.apply(inner())?;
    for slice in endpoints_of_both("dev/inner") {
        t.apply(slice.port("http", 8080, Tcp).ready(P3))?;
    }
    expect_rules(t, [0, 0])?;
    for to in ["10.96.9.50:80/tcp", "[fd00:96::950]:80/tcp"] {
        t.expect(P2, to, Answers::from(P3))?;
    }
    Ok(())
}

fn rule(t: &Trial<'_>, family: &str, verb: &str, rule: &str) -> Step {
    let arguments: Vec<_> = [family, "rule", verb].into_iter().chain(rule.split(' ')).collect();
    Ok(t.host(N1).read("ip", &arguments).map(drop)?)
}

/// How many rules of ours there are of each family once the kernel is as it should be.
fn expect_rules(t: &mut Trial<'_>, expected: [usize; 2]) -> Step {
    t.settled()?;
    expect_held(t, expected)
}

fn expect_held(t: &Trial<'_>, expected: [usize; 2]) -> Step {
    for (family, expected) in ["-4", "-6"].into_iter().zip(expected) {
        let shown = t.host(N1).read("ip", &[family, "rule", "show"])?;
        if shown.matches("lookup 7575 proto 75").count() != expected {
            let step = format!("ip {family} rule");
            return Err(Failure::new(step, format!("{expected} of ours"), shown));
        }
    }
    Ok(())
}
