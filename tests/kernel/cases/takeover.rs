//! From kube-proxy in its ipvs mode to the agent, and back, under load.

use std::sync::Arc;

use kube_ipvs::model::Family;
use kube_ipvs::model::Protocol::{Tcp, Udp};

use super::{Case, case};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{Connection, Host, KubeProxy, Load, endpoints, service};
use crate::trial::{Step, Trial};

/// What kube-proxy did not live to remove or to change.
const OUTDATED: &str = "\
-A -t 10.96.6.9:80 -s rr
-a -t 10.96.6.9:80 -r 10.244.1.11:8080 -m -w 1
-A -t 10.96.6.2:80 -s wrr
-a -t 10.96.6.2:80 -r 10.244.2.14:8080 -m -w 3
";

/// Whoever asks at a front end that both provide.
const CLIENTS: [(Host, &str); 6] = [
    (P2, "10.96.6.1:80/tcp"),
    (N1, "10.96.6.1:80/tcp"),
    (C, "192.168.50.1:30600/tcp"),
    (P2, "[fd00:96::601]:80/tcp"),
    (N1, "[fd00:96::601]:80/tcp"),
    (C, "203.0.113.6:80/tcp"),
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("taking_over_from_kube_proxy_costs_no_connection", taking_over),
        case("the_way_back_to_kube_proxy_costs_no_connection", the_way_back),
        case("without_being_told_to_nothing_of_kube_proxys_is_removed", |t| {
            let proxy = start_of_kube_proxy(t)?;
            t.agent().configure_proxy("nodePortAddresses: [primary]")?;
            services(t)?;
            t.settled()?;
            t.expect(P2, CLIENTS[0].1, Answers::from_all([P1, P3]))?;
            let kept = t.kernel()?.to_string();
            t.check("kube-proxy's device is there", kept.contains("kube-ipvs0"), &kept)?;
            t.check("its rules are there", kept.contains("KUBE-SERVICES"), &kept)?;
            let doctor = t.command("doctor", &[])?.stdout;
            let mend = "kube-ipvs cleanup --kube-proxy";
            t.check("`doctor` says what to do", doctor.contains(mend), &doctor)?;
            let removed = t.run_to_end("cleanup", &["--kube-proxy"])?;
            for line in ["- ip link delete kube-ipvs0", "- ipset destroy KUBE-6-IPVS-IPS"] {
                t.check(line, removed.lines().any(|removed| removed == line), &removed)?;
            }
            nothing_is_left(t)?;
            let ipvs = t.kernel()?.ipvs;
            t.check("no node port elsewhere", !ipvs.contains("10.244.1.1:30600"), &ipvs)?;
            t.expect(P2, CLIENTS[0].1, Answers::from_all([P1, P3]))?;
            let again = t.run_to_end("cleanup", &["--kube-proxy"])?;
            t.same_lines("once more", "", &again)?;
            drop(proxy);
            Ok(())
        }),
    ]
}

fn taking_over(t: &mut Trial<'_>) -> Step {
    let proxy = start_of_kube_proxy(t)?;
    proxy.also(OUTDATED)?;
    for (client, to) in CLIENTS {
        t.expect(client, to, Answers::from_all([P1, P3]))?;
    }
    let mut open = open(t, &CLIENTS)?;
    let loads = loads(t, &CLIENTS);
    services(t)?;
    t.apply(service("dev/changed").cluster_ip("10.96.6.2").port(80, "http", Tcp))?;
    t.apply(endpoints("dev/changed").port("http", 8080, Tcp).ready(P1))?;
    t.agent().configure("removeKubeProxy: true")?;
    t.settled()?;
    t.agent().wait_for_log("kube-proxy's leftovers are removed")?;
    // What comes after it is met by connections that were made before, and by new ones.
    loads.iter().for_each(|load| load.wait_for(5));
    t.still_answer(&mut open)?;
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))?;

    let log = t.agent().log();
    let node_ports = ["192.168.50.1:30600", "10.244.1.1:30600"];
    for adopted in ["10.96.6.1:80", "[fd00:96::601]:80", "203.0.113.6:80"].iter().chain(&node_ports)
    {
        for verb in ["-A", "-E", "-a", "-e", "-d", "-D"] {
            let written = log.contains(&format!("{verb} -t {adopted} "));
            t.check(&format!("{adopted} is adopted without a write"), !written, &log)?;
        }
    }
    t.expect(P2, "10.96.6.2:80/tcp", Answers::from(P1))?;
    t.expect(P2, "10.96.6.9:80/tcp", Silent)?;
    t.expect(P2, "10.244.1.1:30600/tcp", Answers::from_all([P1, P3]))?;
    nothing_is_left(t)?;
    t.expect(C, "10.96.6.1:81/tcp", Refused)?;
    drop(proxy);
    Ok(())
}

fn the_way_back(t: &mut Trial<'_>) -> Step {
    services(t)?;
    t.settled()?;
    // kube-proxy binds a load balancer's address only when we have let go of it.
    let (balancer, clients) = CLIENTS.split_last().expect("clients");
    let mut open = open(t, clients)?;
    let loads = loads(t, clients);
    t.agent().stop()?;
    let proxy = start_of_kube_proxy_beside(t)?;
    let removed = t.run_to_end("cleanup", &[])?;
    for (_, to) in clients {
        let server = to.trim_end_matches("/tcp");
        let left = !removed.contains(&format!("-D -t {server}\n"));
        t.check(&format!("{server} is left to kube-proxy"), left, &removed)?;
    }
    proxy.sync()?;
    loads.iter().for_each(|load| load.wait_for(5));
    t.still_answer(&mut open)?;
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))?;
    t.expect(balancer.0, balancer.1, Answers::from_all([P1, P3]))?;
    let kept = t.kernel()?;
    let ours = ["table ip kube-ipvs", "dev kube-ipvs ", "7575"];
    let left = ours.iter().any(|ours| kept.to_string().contains(ours));
    t.check("nothing of ours is left", !left, &kept)?;
    drop(proxy);
    Ok(())
}

/// A node that the agent has never seen, as kube-proxy left it.
fn start_of_kube_proxy(t: &mut Trial<'_>) -> Step<KubeProxy> {
    t.agent().stop()?;
    t.run_to_end("cleanup", &[])?;
    start_of_kube_proxy_beside(t)
}

fn start_of_kube_proxy_beside(t: &Trial<'_>) -> Step<KubeProxy> {
    Ok(KubeProxy::start(&Arc::clone(t.host(N1)))?)
}

fn services(t: &mut Trial<'_>) -> Step {
    let web = service("dev/web").cluster_ip("10.96.6.1").cluster_ip("fd00:96::601");
    let web = web.port(80, "udp", Udp).port(80, "http", Tcp).node_port(30600);
    t.apply(web.ingress("203.0.113.6"))?;
    let slice = |name: &str| endpoints("dev/web").named(name).port("udp", 8080, Udp);
    t.apply(slice("web-v4").port("http", 8080, Tcp).ready(P1).ready(P3))?;
    let slice = slice("web-v6").of_family(Family::V6).port("http", 8080, Tcp);
    t.apply(slice.ready(P1).ready(P3))
}

fn open(t: &Trial<'_>, clients: &[(Host, &str)]) -> Step<Vec<(String, Connection)>> {
    let open = |(client, to): &(Host, &str)| {
        let which = format!("{client}'s connection to {to}, opened before");
        Ok((which, t.connect(*client, to)?))
    };
    clients.iter().map(open).collect()
}

fn loads(t: &Trial<'_>, clients: &[(Host, &str)]) -> Vec<Load> {
    let loads: Vec<Load> = clients.iter().map(|(client, to)| t.steady_load(*client, to)).collect();
    loads.iter().for_each(|load| load.wait_for(2));
    loads
}

/// Nothing of kube-proxy's is there, and everything of those who have names alike.
fn nothing_is_left(t: &Trial<'_>) -> Step {
    let node = t.host(N1);
    let sets = node.read("ipset", &["list", "-name"])?;
    t.same_lines("sets", "KUBE-SRC-SOMEBODY\n", &sets)?;
    let kernel = t.kernel()?;
    t.check("no device", !kernel.network.contains("kube-ipvs0"), &kernel.network)?;
    let mut chains: Vec<&str> = kernel
        .nft
        .lines()
        .filter_map(|line| line.trim().strip_prefix("chain KUBE-"))
        .map(|line| line.trim_end_matches(" {"))
        .collect();
    chains.sort_unstable();
    chains.dedup();
    t.same_lines(
        "chains",
        "FIREWALL\nIPTABLES-HINT\nKUBELET-CANARY\nMARK-MASQ\nROUTER-INPUT",
        &chains.join("\n"),
    )
}
