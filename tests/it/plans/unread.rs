//! Virtual servers that cannot be read.

use std::time::Duration;

use super::{cluster, lines, pods};
use kube_ipvs_core::engine::SyncError;

use crate::common::model_agent::ModelAgent;
use crate::common::objects::SliceBuilder;

/// Another program deletes all real servers of a virtual server.
fn lose_real_servers(agent: &mut ModelAgent, server: &str) {
    let server = agent.kernel.state.servers.get_mut(&server.parse().unwrap()).unwrap();
    server.reals.clear();
}

/// How many real servers a virtual server has.
fn real_servers(agent: &ModelAgent, server: &str) -> usize {
    agent.kernel.state.servers[&server.parse().unwrap()].reals.len()
}

fn two_pods() -> SliceBuilder {
    pods().ready("10.244.1.5", "n1").ready("10.244.2.6", "n2")
}

/// What cannot be brought about for now, without the reasons.
fn failures(agent: &ModelAgent) -> Vec<String> {
    let mut all: Vec<_> = agent.engine.errors().map(SyncError::command).collect();
    all.sort();
    all
}

const DNS: &str = "10.96.0.10:53/udp";
const WEB: &str = "10.96.0.20:80";

#[test]
fn an_unreadable_virtual_server_does_not_stop_an_audit() {
    let mut agent = cluster();
    agent.settle().unwrap();
    [DNS, WEB].iter().for_each(|server| lose_real_servers(&mut agent, server));
    agent.kernel.unreadable = [(WEB.parse().unwrap(), 2)].into();
    agent.kernel.now += Duration::from_secs(60);
    agent.engine.handle_drift(agent.kernel.now);
    while agent.step().is_some() {}
    assert_eq!((real_servers(&agent, DNS), real_servers(&agent, WEB)), (1, 0));
    assert_eq!(failures(&agent), ["-Ln -t 10.96.0.20:80"]);

    // Its changes are written meanwhile, and do not make it any better known.
    agent.deliver(two_pods());
    while agent.step().is_some() {}
    assert_eq!(real_servers(&agent, WEB), 1);
    assert_eq!(failures(&agent), ["-Ln -t 10.96.0.20:80"]);

    let mended = lines(&agent.settle().unwrap());
    assert_eq!(mended, "+ -a -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 1\n");
    assert_eq!(agent.engine.failures(), 0);
}

#[test]
fn an_unreadable_virtual_server_does_not_stop_the_first_sync() {
    let mut former = cluster();
    former.settle().unwrap();
    [DNS, WEB].iter().for_each(|server| lose_real_servers(&mut former, server));
    let mut agent = cluster();
    agent.kernel = former.kernel;
    let [superfluous, anothers] = ["10.96.0.99:80", "198.18.0.1:80"].map(|it| {
        let (address, held) = (it.parse().unwrap(), &mut agent.kernel.state.servers);
        let mut server = held[&WEB.parse().unwrap()].clone();
        server.server.address = address;
        held.insert(address, server);
        address
    });
    agent.kernel.unreadable = [(WEB.parse().unwrap(), 2), (superfluous, 1), (anothers, 9)].into();
    while agent.step().is_some() {}
    assert!(agent.engine.is_synced());
    assert_eq!((real_servers(&agent, DNS), real_servers(&agent, WEB)), (1, 0));
    assert_eq!(failures(&agent), ["-Ln -t 10.96.0.20:80", "-Ln -t 10.96.0.99:80"]);

    // Of what it holds nothing is known, so nothing is done.
    agent.deliver(two_pods());
    while agent.step().is_some() {}
    assert_eq!(real_servers(&agent, WEB), 0);

    insta::assert_snapshot!(lines(&agent.settle().unwrap()), @r"
    - nft delete element ip kube-ipvs cluster-ips { 10.96.0.99 . 10.96.0.99 }
    - nft delete element ip kube-ipvs front-end-ips { 10.96.0.99 }
    - nft delete element ip kube-ipvs refused { 10.96.0.99 . tcp . 80 }
    - ip -4 route delete local 10.96.0.99/32 dev lo table local proto 75 src 192.0.2.1 metric 75
    - -D -t 10.96.0.99:80
    - nft delete element ip kube-ipvs pools { 10.96.0.99 }
    + -a -t 10.96.0.20:80 -r 10.244.1.5:8080 -m -w 1
    + -a -t 10.96.0.20:80 -r 10.244.2.6:8080 -m -w 1
    ");
    assert_eq!(agent.engine.failures(), 0);
    assert_eq!(agent.kernel.unreadable[&anothers], 8);
}
