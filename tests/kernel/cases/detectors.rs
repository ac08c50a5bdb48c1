//! How pods are told from others: by the interface that their packets come in through.

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Silent};
use crate::lab::Host::{self, C, N1, P2, P3};
use crate::lab::{endpoints_of_both, product, service};

const CLUSTER_IPS: [&str; 2] = ["10.96.9.20", "[fd00:96::914]"];
/// Of policy Local, without an endpoint on this node.
const LOAD_BALANCER_IPS: [&str; 2] = ["203.0.113.120", "[2001:db8:113::120]"];

pub(crate) fn cases() -> Vec<Case> {
    vec![case("pods_are_detected_by_their_interface", |t| {
        served(t)?;
        detect(t, "BridgeInterface", "cni0")?;
        for (ip, protocol) in product(CLUSTER_IPS, ["tcp", "udp"]) {
            for (client, seen) in [(P2, P2), (N1, N1), (C, N1)] {
                sees(t, client, &format!("{ip}:80/{protocol}"), seen)?;
            }
        }
        for (ip, protocol) in product(LOAD_BALANCER_IPS, ["tcp", "udp"]) {
            for client in [P2, N1] {
                sees(t, client, &format!("{ip}:80/{protocol}"), client)?;
            }
        }
        t.expect(C, &format!("{}:80/tcp", LOAD_BALANCER_IPS[0]), Silent)?;

        detect(t, "InterfaceNamePrefix", "cn")?;
        for ip in CLUSTER_IPS.into_iter().chain(LOAD_BALANCER_IPS) {
            sees(t, P2, &format!("{ip}:80/tcp"), P2)?;
        }

        // A pod's address alone does not make a client a pod.
        for (mode, name) in [("BridgeInterface", "cni"), ("InterfaceNamePrefix", "cali")] {
            detect(t, mode, name)?;
            for ip in CLUSTER_IPS {
                sees(t, P2, &format!("{ip}:80/tcp"), N1)?;
            }
        }
        t.expect(P2, &format!("{}:80/tcp", LOAD_BALANCER_IPS[0]), Silent)
    })]
}

/// A Service whose one endpoint is on the other node.
fn served(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/detected").cluster_ip("10.96.9.20").cluster_ip("fd00:96::914");
    let web = web.port("tcp", 80).udp("udp", 80);
    let web = web.local_external();
    t.apply(web.load_balancer_ip("203.0.113.120").load_balancer_ip("2001:db8:113::120"))?;
    for slice in endpoints_of_both("dev/detected") {
        t.apply(slice.port("tcp", 8080).udp("udp", 8080).ready_on(P3))?;
    }
    Ok(())
}

/// Starts the agent with a detector, and compares what it says with what the kernel holds.
fn detect(t: &mut TestContext<'_>, mode: &str, name: &str) -> Step {
    t.agent().configure_proxy(&format!(
        "detectLocalMode: {mode}\n\
         detectLocal: {{bridgeInterface: {name}, interfaceNamePrefix: {name}}}"
    ))?;
    t.settled()?;
    let of_interfaces = |text: &str| {
        let lines =
            text.lines().filter(|line| line.contains("interfaces") || line.contains("{ \""));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let rendered = of_interfaces(&t.run_to_end("render", &["-o", "nft"])?);
    t.check(
        "the name is there",
        rendered.matches(&format!("{{ \"{name}")).count() == 4,
        &rendered,
    )?;
    t.same_lines("`render` against `nft list`", &rendered, &of_interfaces(&t.kernel()?.nft))
}

fn sees(t: &TestContext<'_>, client: Host, front_end: &str, seen: Host) -> Step {
    t.expect(client, front_end, Answers::from(P3).to(seen))
}
