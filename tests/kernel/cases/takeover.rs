//! From kube-proxy, in each of its modes, or from our earlier version to the agent, and back, under
//! load.

use std::sync::Arc;
use std::time::Instant;

use kube_ipvs_core::model::Family;

use super::ownership::lines_of_cleanup;
use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{
    Connection, Host, KubeProxy, Load, Mode, Silence, endpoints, leave_earlier_version, product,
    service,
};

/// What kube-proxy did not live to remove or to change.
const OUTDATED: &str = "\
-A -t 10.96.6.9:80 -s rr
-a -t 10.96.6.9:80 -r 10.244.1.11:8080 -m -w 1
-A -t 10.96.6.2:80 -s wrr
-a -t 10.96.6.2:80 -r 10.244.2.14:8080 -m -w 3
";

/// ClusterIPs, a node port and a load balancer IP that all provide.
const CLUSTER_IPS: [&str; 2] = ["10.96.6.1:80/tcp", "[fd00:96::601]:80/tcp"];
const NODE_PORT: &str = "192.168.50.1:30600/tcp";
const BALANCER: &str = "203.0.113.6:80/tcp";
/// One at an address where the agent, as it is configured here, has no node ports.
const OTHER_NODE_PORT: &str = "10.244.1.1:30600/tcp";
/// An external IP, and a load balancer IP of a Service that is gone, of the earlier version.
const EXTERNAL: &str = "198.51.100.6:80/tcp";
const GONE: &str = "203.0.113.66:80/tcp";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("taking_over_from_kube_proxy_costs_no_connection", taking_over_from_ipvs),
        case("taking_over_from_kube_proxys_iptables_mode_costs_no_connection", |t| {
            taking_over_from(t, Mode::Iptables)
        }),
        case("taking_over_from_kube_proxys_nftables_mode_costs_no_connection", |t| {
            taking_over_from(t, Mode::Nftables)
        }),
        case("an_upgrade_from_the_earlier_version_costs_no_connection", upgrading),
        case("inherited_virtual_servers_end_after_the_drain_period", its_time_is_up),
        case("the_way_back_to_kube_proxy_costs_no_connection", the_way_back),
        case("the_way_back_to_kube_proxys_iptables_mode_costs_no_connection", |t| {
            the_way_back_to(t, Mode::Iptables)
        }),
        case("the_way_back_to_kube_proxys_nftables_mode_costs_no_connection", |t| {
            the_way_back_to(t, Mode::Nftables)
        }),
        case("kube_proxys_objects_are_kept_unless_removal_is_requested", |t| {
            let proxy = start_of_kube_proxy(t, Mode::Ipvs)?;
            t.agent().configure_proxy("nodePortAddresses: [primary]")?;
            services(t)?;
            t.settled()?;
            t.expect(P2, CLUSTER_IPS[0], Answers::from_all([P1, P3]))?;
            let mut open = open(t, &[(C, BALANCER), (P3, OTHER_NODE_PORT)])?;
            let kept = t.kernel()?.to_string();
            t.check("kube-proxy's device is there", kept.contains("kube-ipvs0"), &kept)?;
            t.check("its rules are there", kept.contains("KUBE-SERVICES"), &kept)?;
            let doctor = t.command("doctor", &[])?.stdout;
            let mend = "kube-ipvs cleanup --kube-proxy";
            t.check("`doctor` says what to do", doctor.contains(mend), &doctor)?;
            let planned = t.run_to_end("cleanup", &["--kube-proxy", "--dry-run"])?;
            let json = t.run_to_end("cleanup", &["--kube-proxy", "--dry-run", "-o", "json"])?;
            t.same_lines("the same in JSON", &planned, &lines_of_cleanup(&json))?;
            let after = t.kernel()?.to_string();
            let has_all = |it: &str| after.contains("kube-ipvs0") && after.contains(it);
            t.check("a dry run removes nothing", has_all("KUBE-SERVICES"), &after)?;
            let ports =
                doctor.lines().find(|line| line.contains("node ports ")).unwrap_or_default();
            let told = ports.starts_with("ok ") && ports.contains("; not at ");
            t.check("`doctor` names addresses without node ports", told, &doctor)?;
            let services = [BALANCER, CLUSTER_IPS[0]].map(|it| it.split(':').next());
            let claimed = services.iter().flatten().any(|ip| ports.contains(ip));
            t.check("those of kube-proxy's device are not the node's", !claimed, &doctor)?;
            let removed = t.run_to_end("cleanup", &["--kube-proxy"])?;
            t.same_lines("what a dry run has printed", &planned, &removed)?;
            for line in ["- ip address flush dev kube-ipvs0", "- ipset destroy KUBE-6-IPVS-IPS"] {
                t.check(line, removed.lines().any(|removed| removed == line), &removed)?;
            }
            nothing_is_left(t)?;
            // The agent has heard of it.
            t.eventually_held("no new connection at a node port elsewhere", |ipvs| {
                ipvs.lines().filter(|it| it.contains("-t 10.244.1.1:30600 -r")).all(is_drained)
            })?;
            t.still_answer(&mut open)?;
            drop(open);
            t.eventually_held("no node port elsewhere", |ipvs| !ipvs.contains("10.244.1.1:30600"))?;
            t.expect(P2, CLUSTER_IPS[0], Answers::from_all([P1, P3]))?;
            let again = t.run_to_end("cleanup", &["--kube-proxy"])?;
            t.same_lines("once more", "", &again)?;
            drop(proxy);
            Ok(())
        }),
    ]
}

fn taking_over_from_ipvs(t: &mut TestContext<'_>) -> Step {
    let proxy = start_of_kube_proxy(t, Mode::Ipvs)?;
    proxy.also(OUTDATED)?;
    t.host(N1).ip("addr add 10.96.6.9/32 dev kube-ipvs0")?;
    let mut before = Before::new(t, &clients())?.by_another_proxy();
    let mut elsewhere = open(t, &[(P3, OTHER_NODE_PORT), (P2, "10.96.6.9:80/tcp")])?;
    services(t)?;
    t.apply(service("dev/changed").cluster_ip("10.96.6.2").port("http", 80))?;
    t.apply(endpoints("dev/changed").port("http", 8080).ready_on(P1))?;
    t.agent().configure("removeKubeProxy: true")?;
    t.settled()?;
    t.agent().wait_for_log("kube-proxy's leftovers are removed")?;
    before.have_lost_nothing(t)?;
    t.still_answer(&mut elsewhere)?;

    let log = t.agent().log();
    for adopted in CLUSTER_IPS.map(|to| to.trim_end_matches("/tcp")) {
        for verb in ["-A", "-E", "-a", "-e", "-d", "-D"] {
            let written = log.contains(&format!("{verb} -t {adopted} "));
            t.check(&format!("{adopted} is adopted without a write"), !written, &log)?;
        }
    }
    t.expect(P2, "10.96.6.2:80/tcp", Answers::from(P1))?;
    t.expect(P2, "10.96.6.9:80/tcp", Refused)?;
    nothing_is_left(t)?;
    t.expect(C, "10.96.6.1:81/tcp", Refused)?;
    let ends = [BALANCER, NODE_PORT, OTHER_NODE_PORT, "10.96.6.9:80/tcp"];
    are_drained(t, &ends)?;
    drop((before, elsewhere));
    are_gone(t, &ends)?;
    t.expect(P2, "10.96.6.9:80/tcp", Silent)?;
    drop(proxy);
    Ok(())
}

fn taking_over_from(t: &mut TestContext<'_>, mode: Mode) -> Step {
    let proxy = start_of_kube_proxy(t, mode)?;
    let mut before = Before::new(t, &clients())?.by_another_proxy();
    services(t)?;
    t.agent().configure("removeKubeProxy: true")?;
    t.settled()?;
    t.agent().wait_for_log("kube-proxy's leftovers are removed")?;
    before.have_lost_nothing(t)?;
    let nft = t.kernel()?.nft;
    let traces = ["KUBE-SERVICES", "KUBE-SVC", "KUBE-SEP", "table ip kube-proxy"];
    t.check("no rule is left", !traces.iter().any(|trace| nft.contains(trace)), &nft)?;
    for (client, to) in clients() {
        t.expect(client, to, Answers::from_all([P1, P3]))?;
    }
    drop(proxy);
    Ok(())
}

fn upgrading(t: &mut TestContext<'_>) -> Step {
    let clients = start_of_earlier_version(t)?;
    let mut before = Before::new(t, &clients)?;
    let mut gone = open(t, &[(C, GONE)])?;
    let flow = t.flow(C, &BALANCER.replace("tcp", "udp"))?;
    let asked = || flow.ask().map(drop).map_err(|it| Failure::new("a socket", "an answer", it));
    asked()?;
    services(t)?;
    t.settled()?;
    before.have_lost_nothing(t)?;
    t.still_answer(&mut gone)?;
    patiently(LONG_PATIENCE, asked)?;
    for (client, to) in clients {
        t.expect(client, to, Answers::from_all([P1, P3]))?;
    }
    t.expect(C, GONE, Refused)?;
    t.expect(P2, "203.0.113.6:81/tcp", Refused)?;
    nothing_of_the_earlier_version_is_left(t)?;

    let ends = [BALANCER, NODE_PORT, EXTERNAL, GONE];
    are_drained(t, &ends)?;
    // Nor does the end of the agent change a thing.
    t.agent().stop()?;
    t.settled()?;
    t.still_answer(&mut before.open)?;
    t.still_answer(&mut gone)?;
    are_drained(t, &ends)?;
    drop((before, gone));
    are_gone(t, &ends)?;
    let network = t.kernel()?.network;
    let left = ["203.0.113.", "198.51.100."].iter().any(|ip| network.contains(ip));
    t.check("no route is left", !left, &network)
}

fn its_time_is_up(t: &mut TestContext<'_>) -> Step {
    let clients = start_of_earlier_version(t)?;
    let mut open = open(t, &clients)?;
    open.extend(self::open(t, &[(C, GONE)])?);
    services(t)?;
    t.settled()?;
    let new = clients.iter().map(|(client, to)| Ok((to, t.connect(*client, to)?)));
    let mut new = new.collect::<Step<Vec<_>>>()?;
    t.still_answer(&mut open)?;
    // An agent that starts counts from its start.
    t.agent().configure("drainPeriod: 1s")?;
    t.settled()?;
    are_gone(t, &[BALANCER, NODE_PORT, EXTERNAL, GONE])?;
    t.settled()?;
    for (which, open) in &mut open {
        // Those to ClusterIPs go on, and so do those that the earlier version led there.
        let goes_on = which.contains("10.96.6.1") || which.contains("fd00:96");
        match open.ask() {
            Ok(_) if goes_on || which.starts_with("N1") => {}
            Err(Silence::Reset) if !goes_on => {}
            other => return Err(Failure::new(which, "its end", format!("{other:?}"))),
        }
    }
    // Of the new ones not one, though the same clients have them to the same endpoints.
    new.iter_mut().try_for_each(|(to, open)| t.expect_answer(open, to).map(drop))
}

fn the_way_back(t: &mut TestContext<'_>) -> Step {
    services(t)?;
    t.settled()?;
    let mut before = Before::new(t, &clients())?;
    t.agent().stop()?;
    let proxy = start_of_kube_proxy_beside(t, Mode::Ipvs)?;
    let removed = t.run_to_end("cleanup", &[])?;
    for to in CLUSTER_IPS {
        let server = to.trim_end_matches("/tcp");
        let left = !removed.contains(&format!("-D -t {server}\n"));
        t.check(&format!("{server} is left to kube-proxy"), left, &removed)?;
    }
    proxy.sync()?;
    before.have_lost_nothing(t)?;
    nothing_of_ours_is_left(t)?;
    drop(proxy);
    Ok(())
}

fn the_way_back_to(t: &mut TestContext<'_>, mode: Mode) -> Step {
    services(t)?;
    t.settled()?;
    let mut before = Before::new(t, &clients())?;
    t.agent().stop()?;
    let proxy = start_of_kube_proxy_beside(t, mode)?;
    let mut cleanup = t.agent().begin(&["cleanup", "--drain", "10m"])?;
    is_empty_soon(t, "cluster-ips")?;
    let new = open(t, &clients())?;
    before.have_lost_nothing(t)?;
    t.check("it waits", cleanup.try_wait()?.is_none(), "it has ended")?;
    // Only connections from before are waited for.
    drop(before);
    let status = cleanup.wait()?;
    t.check("it ends well", status.success(), status)?;
    nothing_of_ours_is_left(t)?;
    t.still_answer(&mut { new })?;
    for (client, to) in clients() {
        t.expect(client, to, Answers::from_all([P1, P3]))?;
    }
    drop(proxy);
    Ok(())
}

fn nothing_of_ours_is_left(t: &TestContext<'_>) -> Step {
    let kept = t.kernel()?;
    let ours = ["table ip kube-ipvs", "proto 75", "dev kube-ipvs ", "7575", "-A -t 250."];
    let left = ours.iter().any(|ours| kept.to_string().contains(ours));
    t.check("nothing of ours is left", !left, &kept)
}

/// Connections opened before, and clients that ask all the time.
struct Before {
    open: Vec<(String, Connection)>,
    loads: Vec<Load>,
    /// Requests that failed before then are another proxy's.
    since: Option<Instant>,
}

impl Before {
    /// Each of the clients has one of each.
    fn new(t: &TestContext<'_>, clients: &[(Host, &str)]) -> Step<Self> {
        for (client, to) in clients {
            t.expect(*client, to, Answers::from_all([P1, P3]))?;
        }
        let open = open(t, clients)?;
        let loads: Vec<_> = clients.iter().map(|(it, to)| t.steady_load(*it, to)).collect();
        loads.iter().for_each(|load| load.wait_for(2));
        Ok(Self { open, loads, since: None })
    }

    /// Another proxy serves until now, and answers for itself.
    fn by_another_proxy(self) -> Self {
        Self { since: Some(Instant::now()), ..self }
    }

    /// No connection has been lost, and no request failed, neither before nor from now on.
    fn have_lost_nothing(&mut self, t: &TestContext<'_>) -> Step {
        // What comes after it is met by connections that were made before, and by new ones.
        self.loads.iter().for_each(|load| load.wait_for(5));
        t.still_answer(&mut self.open)?;
        self.loads.drain(..).try_for_each(|load| t.expect_no_failure_since(load, self.since))
    }
}

/// Every client of a front end that all proxies provide.
fn clients() -> Vec<(Host, &'static str)> {
    let all = product([P2, N1, C], [CLUSTER_IPS[0], NODE_PORT, BALANCER]);
    all.chain([(P2, CLUSTER_IPS[1]), (N1, CLUSTER_IPS[1])]).collect()
}

/// A node that the agent has never seen, as kube-proxy left it.
fn start_of_kube_proxy(t: &mut TestContext<'_>, mode: Mode) -> Step<KubeProxy> {
    t.agent().stop()?;
    t.run_to_end("cleanup", &[])?;
    start_of_kube_proxy_beside(t, mode)
}

fn start_of_kube_proxy_beside(t: &TestContext<'_>, mode: Mode) -> Step<KubeProxy> {
    Ok(KubeProxy::start(&Arc::clone(t.host(N1)), mode)?)
}

/// A node as the earlier version left it, and its clients.
fn start_of_earlier_version(t: &mut TestContext<'_>) -> Step<Vec<(Host, &'static str)>> {
    t.agent().stop()?;
    t.run_to_end("cleanup", &[])?;
    leave_earlier_version(t.host(N1))?;
    t.expect(C, GONE, Answers::from(P4))?;
    Ok(clients().into_iter().chain(product([P2, N1, C], [EXTERNAL])).collect())
}

fn services(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/web").cluster_ip("10.96.6.1").cluster_ip("fd00:96::601");
    let web = web.udp("udp", 80).port("http", 80).node_port(30600);
    let web = web.external_ip("198.51.100.6");
    t.apply(web.load_balancer_ip("203.0.113.6"))?;
    let slice = |name: &str| endpoints("dev/web").named(name).udp("udp", 8080);
    t.apply(slice("web-v4").port("http", 8080).ready_on(P1).ready_on(P3))?;
    let slice = slice("web-v6").of_family(Family::V6).port("http", 8080);
    t.apply(slice.ready_on(P1).ready_on(P3))
}

fn open(t: &TestContext<'_>, clients: &[(Host, &str)]) -> Step<Vec<(String, Connection)>> {
    let open = |(client, to): &(Host, &str)| {
        let which = format!("{client}'s connection to {to}, opened before");
        let mut open = t.connect(*client, to)?;
        t.expect_answer(&mut open, &which)?;
        Ok((which, open))
    };
    clients.iter().map(open).collect()
}

/// Virtual servers are there and get no new connection.
fn are_drained(t: &TestContext<'_>, servers: &[&str]) -> Step {
    let held = t.kernel()?.ipvs;
    for server in servers.iter().map(|to| to.trim_end_matches("/tcp")) {
        let mut reals =
            held.lines().filter(|it| it.contains(&format!("-t {server} -r "))).peekable();
        let holds = reals.peek().is_some() && reals.all(is_drained);
        t.check(&format!("{server} is there and gets no new connection"), holds, &held)?;
    }
    Ok(())
}

fn is_drained(real: &str) -> bool {
    real.trim_end().ends_with("-w 0")
}

/// Virtual servers go, and what names them.
fn are_gone(t: &TestContext<'_>, servers: &[&str]) -> Step {
    t.eventually_held("no virtual server from before", |held| {
        !servers.iter().any(|to| held.contains(&format!("-t {} ", to.trim_end_matches("/tcp"))))
    })?;
    is_empty_soon(t, "former")
}

/// A set of ours loses all elements.
fn is_empty_soon(t: &TestContext<'_>, set: &str) -> Step {
    patiently(LONG_PATIENCE, || {
        ["ip", "ip6"].into_iter().try_for_each(|family| {
            let listed = t.host(N1).read("nft", &["list", "set", family, "kube-ipvs", set])?;
            t.check(&format!("set {set} is empty"), !listed.contains("elements"), &listed)
        })
    })
}

fn nothing_of_the_earlier_version_is_left(t: &TestContext<'_>) -> Step {
    let kernel = t.kernel()?;
    for (what, of) in [
        ("table inet kube-ipvs", &kernel.nft),
        ("7575", &kernel.network),
        ("10.96.0.0/12", &kernel.network),
        ("250.96.0.0/12", &kernel.network),
        ("fd00:96::/108", &kernel.network),
        ("dev kube-ipvs ", &kernel.network),
    ] {
        t.check(&format!("no {what} is left"), !of.contains(what), of)?;
    }
    Ok(())
}

/// Nothing of kube-proxy's is there, and everything of those who have names alike.
fn nothing_is_left(t: &TestContext<'_>) -> Step {
    let node = t.host(N1);
    let sets = node.read("ipset", &["list", "-name"])?;
    t.same_lines("sets", "KUBE-SRC-SOMEBODY\n", &sets)?;
    let kernel = t.kernel()?;
    let addresses = kernel.network.contains("dev kube-ipvs0");
    t.check("no address on the device", !addresses, &kernel.network)?;
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
