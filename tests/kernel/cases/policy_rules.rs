//! What earlier versions had and this one has not: policy rules, routes and virtual servers of load
//! balancer and external IPs.

use super::{Case, case};
use crate::context::{Failure, Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P2, P3};
use crate::lab::{ServiceBuilder, endpoints_of_both, service};

/// As an earlier version left it, and as another program may have it.
const OURS: &str = "not iif lo lookup 7575 pref 75 protocol 75";
const ANOTHERS: &str = "not iif lo lookup 7575 pref 75 protocol static";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_load_balancer_costs_no_rule_route_address_or_virtual_server", |t| {
            inner_served(t)?;
            t.settled()?;
            let before = t.kernel()?;
            let external = vec!["198.51.100.151"];
            let all =
                inner().load_balancer_ip("203.0.113.150").load_balancer_ip("2001:db8:113::150");
            t.apply(all.spec("externalIPs", external).spec("type", "LoadBalancer"))?;
            t.settled()?;
            for address in ["203.0.113.150", "[2001:db8:113::150]", "198.51.100.151"] {
                t.expect(C, &format!("{address}:80/tcp"), Answers::from(P3))?;
            }
            let after = t.kernel()?;
            t.equal("what IPVS holds", before.ipvs, after.ipvs)?;
            t.equal("rules, routes and addresses", before.network, after.network)
        }),
        case("policy_rules_of_an_earlier_version_go", |t| {
            inner_served(t)?;
            t.agent().stop()?;
            for family in ["-4", "-6"] {
                rule(t, family, "add", OURS)?;
                rule(t, family, "add", ANOTHERS)?;
            }
            t.settled()?;
            expect_held(t)?;
            for family in ["-4", "-6"] {
                rule(t, family, "delete", ANOTHERS)?;
            }
            t.expect(P2, "[fd00:96::950]:80/tcp", Answers::from(P3))
        }),
    ]
}

fn inner() -> ServiceBuilder {
    let inner = service("dev/inner").cluster_ip("10.96.9.50").cluster_ip("fd00:96::950");
    inner.port("http", 80)
}

/// A Service that has ClusterIPs only.
fn inner_served(t: &mut TestContext<'_>) -> Step {
    t.apply(inner())?;
    for slice in endpoints_of_both("dev/inner") {
        t.apply(slice.port("http", 8080).ready_on(P3))?;
    }
    t.settled()?;
    for to in ["10.96.9.50:80/tcp", "[fd00:96::950]:80/tcp"] {
        t.expect(P2, to, Answers::from(P3))?;
    }
    Ok(())
}

fn rule(t: &TestContext<'_>, family: &str, verb: &str, rule: &str) -> Step {
    let arguments: Vec<_> = [family, "rule", verb].into_iter().chain(rule.split(' ')).collect();
    Ok(t.host(N1).read("ip", &arguments).map(drop)?)
}

/// No rule of ours is left, and the other's still is.
fn expect_held(t: &TestContext<'_>) -> Step {
    for family in ["-4", "-6"] {
        let shown = t.host(N1).read("ip", &[family, "rule", "show"])?;
        if shown.contains("lookup 7575 proto 75") {
            return Err(Failure::new(format!("ip {family} rule"), "none of ours", shown));
        }
    }
    Ok(())
}
