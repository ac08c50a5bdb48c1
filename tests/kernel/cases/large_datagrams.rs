//! Datagrams that are larger than a packet, as far as IPVS lets them pass.

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::{Flow, Silence, endpoints_of_both, product, service};

/// More than three packets.
const LARGE: usize = 5000;

const CLUSTER_IPS: [&str; 2] = ["10.96.9.8:80", "[fd00:96::908]:80"];
const OTHERS: [&str; 4] =
    ["203.0.113.98:80", "192.168.50.1:31947", "[2001:db8:113::98]:80", "[fd00:50::1]:31947"];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("large_datagrams_arrive", |t| {
            served(t, "")?;
            for to in CLUSTER_IPS.into_iter().chain(OTHERS) {
                arrives(t, C, to, &open(t, C, to)?)?;
                if !to.starts_with('[') {
                    arrives(t, P2, to, &open(t, P2, to)?)?;
                }
            }
            arrives(t, N1, OTHERS[0], &open(t, N1, OTHERS[0])?)?;
            // The kernel has to learn first how large a packet may be.
            let flow = open(t, N1, CLUSTER_IPS[0])?;
            patiently(LONG_PATIENCE, || arrives(t, N1, CLUSTER_IPS[0], &flow))?;
            in_flows_that_are_carried(t, &OTHERS)
        }),
        case("large_datagrams_that_ipvs_refuses", |t| {
            served(t, "")?;
            // What the node has learnt of how large a packet may be.
            t.host(N1).ip("route flush cache\n")?;
            // A flow that begins with a small one is refused as well.
            for client in [P2, N1] {
                let flow = open(t, client, CLUSTER_IPS[1])?;
                for _ in 0..2 {
                    arrives_small(t, client, CLUSTER_IPS[1], &flow)?;
                    is_refused(t, client, CLUSTER_IPS[1], &flow)?;
                }
            }
            // The first datagrams of others alone.
            let first = [
                (P2, OTHERS[2]),
                (P2, OTHERS[3]),
                (N1, CLUSTER_IPS[0]),
                (N1, OTHERS[1]),
                (N1, OTHERS[2]),
                (N1, OTHERS[3]),
            ];
            for (client, to) in first {
                is_refused(t, client, to, &open(t, client, to)?)?;
            }
            Ok(())
        }),
        case("large_datagrams_arrive_if_all_is_carried", |t| {
            served(t, "carry: all")?;
            in_flows_that_are_carried(t, &OTHERS)?;
            in_flows_that_are_carried(t, &CLUSTER_IPS)
        }),
    ]
}

/// One endpoint on each node.
fn served(t: &mut TestContext<'_>, options: &str) -> Step {
    t.agent().configure(options)?;
    let web = service("dev/large").cluster_ip("10.96.9.8").cluster_ip("fd00:96::908");
    let web = web.load_balancer_ip("203.0.113.98").load_balancer_ip("2001:db8:113::98");
    t.apply(web.udp("udp", 80).node_port(31_947))?;
    for slice in endpoints_of_both("dev/large") {
        t.apply(slice.udp("udp", 8080).ready_on(P1).ready_on(P3))?;
    }
    t.settled()
}

/// IPVS sees their first datagram alone.
fn in_flows_that_are_carried(t: &TestContext<'_>, front_ends: &[&str]) -> Step {
    for (to, client) in product(front_ends.to_vec(), [P2, N1, C]) {
        let flow = open(t, client, to)?;
        arrives_small(t, client, to, &flow)?;
        arrives(t, client, to, &flow)?;
    }
    Ok(())
}

fn open(t: &TestContext<'_>, client: Host, to: &str) -> Step<Flow> {
    t.flow(client, &format!("{to}/udp"))
}

fn arrives_small(t: &TestContext<'_>, client: Host, to: &str, flow: &Flow) -> Step {
    let answer = flow.ask();
    t.check(&format!("{client} asks {to}"), answer.is_ok(), format!("{answer:?}"))
}

/// IPVS does not take it, and the sender is told (`EMSGSIZE`).
fn is_refused(t: &TestContext<'_>, client: Host, to: &str, flow: &Flow) -> Step {
    let answer = flow.ask_at_length(LARGE);
    let is_told = matches!(&answer, Err(Silence::Other(why)) if why.contains("Message too long"));
    t.check(
        &format!("{client}'s large datagram to {to} is refused"),
        is_told,
        format!("{answer:?}"),
    )
}

fn arrives(t: &TestContext<'_>, client: Host, to: &str, flow: &Flow) -> Step {
    let answer = flow.ask_at_length(LARGE);
    t.check(
        &format!("{client} sends a large datagram to {to}"),
        answer.is_ok(),
        format!("{answer:?}"),
    )
}
