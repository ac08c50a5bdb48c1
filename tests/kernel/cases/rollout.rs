//! A rolling replacement of all endpoints, while clients make thousands of connections: none fails,
//! and none that was there before ends.

use kube_ipvs_core::model::Family;
use kube_ipvs_core::model::Protocol::Tcp;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Load, Server, endpoints_of_both, product, service};

/// A pod, the node and an external client, each at every front end.
const CLIENTS: [Host; 3] = [P2, N1, C];
/// ClusterIP, load balancer IP and node port, of each family.
const FRONT_ENDS: [[&str; 3]; 2] = [
    ["10.96.3.12:80/tcp", "203.0.113.32:80/tcp", "192.168.50.1:31946/tcp"],
    ["[fd00:96::30c]:80/tcp", "[2001:db8:113::32]:80/tcp", "[fd00:50::1]:31946/tcp"],
];
/// Where the pods of the Service listen, until they leave.
const PORT: u16 = 7071;
/// Who comes, and whose place it takes.
const REPLACEMENTS: [(Host, Host); 2] = [(P2, P1), (P4, P3)];
/// Requests that clients make together during each of its six steps, at least.
const MEANWHILE: usize = 500;

pub(crate) fn cases() -> Vec<Case> {
    vec![case("a_rollout_under_load", a_rollout_under_load)]
}

fn a_rollout_under_load(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/rollout").cluster_ip("10.96.3.12").cluster_ip("fd00:96::30c");
    let web = web.load_balancer_ip("203.0.113.32").load_balancer_ip("2001:db8:113::32");
    t.apply(web.port("http", 80).node_port(31_946))?;
    let mut pods = vec![Pod::start(t, P1)?, Pod::start(t, P3)?];
    publish(t, &pods)?;
    t.settled()?;

    let mut open = product(CLIENTS, FRONT_ENDS.concat())
        .map(|(client, to)| {
            Ok((format!("{client}'s first connection to {to}"), t.connect(client, to)?))
        })
        .collect::<Step<Vec<_>>>()?;
    t.still_answer(&mut open)?;
    let loads: Vec<Load> = product(CLIENTS, FRONT_ENDS)
        .map(|(client, front_ends)| t.load_in_turn(client, &front_ends))
        .collect();
    let mut left = Vec::new();
    for (new, old) in REPLACEMENTS {
        pods.push(Pod::start(t, new)?);
        advance(t, &pods, &loads)?;
        let index = pods.iter().position(|pod| pod.host == old).expect("a pod of the Service");
        pods[index].is_leaving = true;
        advance(t, &pods, &loads)?;
        let mut gone = pods.remove(index);
        advance(t, &pods, &loads)?;
        gone.close();
        left.push(gone);
        t.still_answer(&mut open)?;
    }
    println!("        {} connections", Load::total(&loads));
    for load in loads {
        t.expect_no_failure(load)?;
    }
    t.expect(C, FRONT_ENDS[0][0], Answers::from_all([P2, P4]).on_port(PORT))?;
    t.still_answer(&mut open)
}

/// A pod of the Service.
struct Pod {
    host: Host,
    /// Whether it has been told to end.
    is_leaving: bool,
    servers: [Server; 2],
}

impl Pod {
    fn start(t: &TestContext<'_>, host: Host) -> Step<Self> {
        let [v4, v6] =
            Family::BOTH.map(|family| Server::start(t.host(host), host, family, PORT, Tcp));
        Ok(Self { host, is_leaving: false, servers: [v4?, v6?] })
    }

    /// From now on a new client is refused. Those that it has are served to the end.
    fn close(&mut self) {
        self.servers.iter_mut().for_each(Server::close);
    }
}

/// Makes one step of the rollout, and lets clients go on for a while.
fn advance(t: &mut TestContext<'_>, pods: &[Pod], loads: &[Load]) -> Step {
    let requests = Load::total(loads) + MEANWHILE;
    publish(t, pods)?;
    t.settled()?;
    // Whoever was led by what was there before has been answered after this.
    loads.iter().for_each(|load| load.wait_for(2));
    Load::wait_for_total(loads, requests);
    Ok(())
}

/// Writes the slices.
fn publish(t: &mut TestContext<'_>, pods: &[Pod]) -> Step {
    for slice in endpoints_of_both("dev/rollout") {
        let slice = slice.port("http", PORT);
        let slice = pods.iter().fold(slice, |slice, pod| match pod.is_leaving {
            true => slice.terminating_on(pod.host),
            false => slice.ready_on(pod.host),
        });
        t.apply(slice)?;
    }
    Ok(())
}
