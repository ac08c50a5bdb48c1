//! `trace`: what becomes of a real packet.

use std::process::Child;

use kube_ipvs_core::model::Family;
use rustix::process::{Pid, Signal, kill_process};

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{Host, NODE_PORT_OF_DAEMON, SHORT_PATIENCE, Temporary, ask, endpoints, service};

const TABLE: &str = "kube-ipvs-trace";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_trace_of_a_pod_to_a_cluster_ip", |t| {
            serve(t, "10.96.6.1", 30061, &[P3])?;
            let text = traced(t, P2, "10.96.6.1:80")?;
            shows(
                t,
                &text,
                &[
                    "to 10.96.6.1:80/tcp of shop/web:http",
                    "request  prerouting   arrives by cni0",
                    "request  prerouting   ip kube-ipvs prerouting: ip daddr . ip daddr @cluster-ips dnat \
                 to ip daddr",
                    "request  output       to 10.244.2.13:8080 (shop/web-0 on n2), by IPVS",
                    "request  postrouting  ip kube-ipvs to-cluster-ip: ct original ip saddr @pods accept",
                    "request  postrouting  leaves by eth0",
                    "answer   prerouting   arrives by eth0",
                    "answer   forward      from 10.96.6.1:80, by IPVS",
                    "answer   postrouting  leaves by cni0",
                    "answered: by 10.244.2.13:8080 (shop/web-0 on n2)",
                ],
            )
        }),
        case("a_trace_of_an_external_client_to_a_node_port", |t| {
            serve(t, "10.96.6.2", 30062, &[P3])?;
            let text = traced(t, C, "192.168.50.1:30062")?;
            shows(
                t,
                &text,
                &[
                    "request  prerouting   arrives by eth0",
                    "map @front-ends",
                    "request  prerouting   to 10.96.6.2:80\n",
                    "request  output       to 10.244.2.13:8080 (shop/web-0 on n2), by IPVS",
                    "ip kube-ipvs masq: meta l4proto tcp counter masquerade to :32768-60999 fully-random",
                    "request  postrouting  from 192.168.50.1:",
                    "answer   prerouting   to 192.168.50.100:",
                    "answer   postrouting  from 192.168.50.1:30062 (on n1), by connection tracking",
                    "answered: by 10.244.2.13:8080 (shop/web-0 on n2)",
                ],
            )
        }),
        case("a_trace_opens_the_nodes_own_connection", |t| {
            serve(t, "10.96.6.3", 30063, &[P1])?;
            let before = tables(t)?;
            let by_name = ["--from", "node", "--to", "svc/web:http", "-n", "shop"];
            let text = t.run_to_end("trace", &by_name)?;
            shows(
                t,
                &text,
                &[
                    "(on n1) to 10.96.6.3:80/tcp of shop/web:http",
                    "request  output       sent by a process of this node",
                    "to 10.244.1.11:8080 (shop/web-0 on n1), by IPVS",
                    "answer   input        delivered to a process of this node",
                    "answered: by 10.244.1.11:8080",
                ],
            )?;
            let json = t.run_to_end("trace", &[&by_name[..], &["-o", "json"]].concat())?;
            let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            t.equal("outcome", "\"answered\"".to_owned(), json["outcome"].to_string())?;
            t.same_lines("tables", &before, &tables(t)?)
        }),
        case("a_trace_of_endpoints_on_the_node_itself", |t| {
            // In the node's own network: nothing leaves the node.
            let web = service("shop/web").cluster_ip("10.96.6.12").port("http", 80);
            t.apply(web.node_port(30072))?;
            t.apply(endpoints("shop/web").port("http", NODE_PORT_OF_DAEMON).ready_on(N1))?;
            t.settled()?;
            let to_process = "delivered to a process of this node";
            let from_process = "sent by a process of this node";
            let by_ipvs = format!("to 192.168.50.1:{NODE_PORT_OF_DAEMON} (on n1), by IPVS");
            let answered = format!("answered: by 192.168.50.1:{NODE_PORT_OF_DAEMON} (on n1)");
            for (client, to) in [(P2, "10.96.6.12:80"), (C, "192.168.50.1:30072")] {
                let text = traced(t, client, to)?;
                let way =
                    ["arrives by", &by_ipvs, to_process, from_process, "leaves by", &answered];
                shows(t, &text, &way)?;
            }
            let text = t.run_to_end("trace", &["--from", "node", "--to", "10.96.6.12:80"])?;
            let way = [from_process, &by_ipvs, to_process, from_process, to_process, &answered];
            shows(t, &text, &way)?;
            // A pod that is sent to itself.
            t.apply(endpoints("shop/web").port("http", 8080).ready_on(P2))?;
            t.settled()?;
            let text = traced(t, P2, "10.96.6.12:80")?;
            let masqueraded = "request  postrouting  from 10.244.1.1:";
            shows(t, &text, &["@hairpin goto masq", masqueraded, "answered: by 10.244.1.12:8080"])
        }),
        case("a_trace_of_ipv6_and_udp", |t| {
            let dns = service("shop/web").cluster_ip("fd00:96::604").udp("dns", 53);
            t.apply(dns)?;
            let slice = endpoints("shop/web").of_family(Family::V6).udp("dns", 8080);
            t.apply(slice.ready_on(P3))?;
            t.settled()?;
            let text = traced(t, P2, "[fd00:96::604]:53/udp")?;
            shows(
                t,
                &text,
                &[
                    "ip6 kube-ipvs prerouting: ip6 daddr . ip6 daddr @cluster-ips dnat to ip6 daddr",
                    "to [fd00:244:2::13]:8080",
                    "answered: by [fd00:244:2::13]:8080",
                ],
            )
        }),
        case("a_trace_of_sctp", |t| {
            t.apply(service("shop/web").cluster_ip("10.96.6.14").sctp("peer", 80))?;
            t.apply(endpoints("shop/web").sctp("peer", 8080).ready_on(P3))?;
            t.settled()?;
            let text = traced(t, P2, "10.96.6.14:80/sctp")?;
            let to = "request  output       to 10.244.2.13:8080";
            shows(t, &text, &["to 10.96.6.14:80/sctp", to, "answered: by 10.244.2.13:8080"])
        }),
        case("a_trace_of_a_connection_that_is_carried", |t| {
            let offload = "carry: offload\noffloadInterfaces: [eth0, cni0, 'P*']";
            for (ip, node_port, carry) in
                [("10.96.6.15", 30075, "carry: all"), ("10.96.6.16", 30076, offload)]
            {
                t.agent().configure(carry)?;
                serve(t, ip, node_port, &[P3])?;
                let text = traced(t, P2, &format!("{ip}:80"))?;
                let to = "request  output       to 10.244.2.13:8080 (shop/web-0 on n2), by IPVS";
                shows(t, &text, &["request  prerouting   arrives by cni0", to, "answered: by"])?;
            }
            Ok(())
        }),
        case("a_trace_says_who_refuses", |t| {
            t.apply(service("shop/web").cluster_ip("10.96.6.5").port("http", 80))?;
            t.settled()?;
            let text = traced(t, P2, "10.96.6.5:80")?;
            shows(
                t,
                &text,
                &[
                    "ip kube-ipvs refuse: meta l4proto tcp counter reject with tcp reset",
                    "refused: by kube-ipvs: ",
                ],
            )?;
            // Nothing listens at this port of the endpoint.
            t.apply(endpoints("shop/web").port("http", 8099).ready_on(P1))?;
            t.settled()?;
            let text = traced(t, P2, "10.96.6.5:80")?;
            shows(t, &text, &["refused: by 10.244.1.11:8099", "nothing listens there"])?;
            t.apply(service("shop/web").cluster_ip("10.96.6.5").udp("dns", 53))?;
            t.apply(endpoints("shop/web").udp("dns", 8099).ready_on(P1))?;
            t.settled()?;
            let text = t.run_to_end("trace", &["--from", "node", "--to", "10.96.6.5:53/udp"])?;
            let error = "refused: an error of ICMP came from 10.244.1.11";
            shows(t, &text, &[error, " on the way to 10.244.1.11:8099"])?;
            let web = service("shop/web").cluster_ip("10.96.6.5").load_balancer_ip("203.0.113.65");
            let web = web.spec("loadBalancerSourceRanges", ["198.51.100.0/24"]);
            t.apply(web.port("http", 80))?;
            t.apply(endpoints("shop/web").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            let text = traced(t, C, "203.0.113.65:80")?;
            shows(t, &text, &["@allowed counter drop", "dropped: by kube-ipvs: ", "source"])
        }),
        case("a_trace_names_the_rule_of_another_program", |t| {
            serve(t, "10.96.6.6", 30066, &[P3])?;
            let rules = "chain guard { ip saddr 10.244.2.13 counter drop; }
                chain forward { type filter hook forward priority 0; jump guard; }";
            let blocker = Temporary::table(t.host(N1), "inet blocker", rules)?;
            let text = traced(t, P2, "10.96.6.6:80")?;
            let dropped =
                "dropped: the answer by another program's rule: inet blocker guard handle ";
            shows(t, &text, &["answer   forward      another program's rule: ", dropped])?;
            drop(blocker);
            let policy = "chain sent { type filter hook output priority 0; policy drop;
                ip daddr 127.0.0.0/8 accept; ip daddr != 10.244.2.13 accept; }";
            let _blocker = Temporary::table(t.host(N1), "ip blocker", policy)?;
            let text = traced(t, C, "192.168.50.1:30066")?;
            shows(t, &text, &["dropped: by another program's policy: ip blocker sent\n"])
        }),
        case("a_trace_names_a_rule_of_iptables", |t| {
            serve(t, "10.96.6.9", 30069, &[P3])?;
            let rules = "*filter\n-A FORWARD -s 10.244.2.13 -j REJECT\nCOMMIT\n";
            let _rejecting = Temporary::iptables(t.host(N1), rules, "*filter\nCOMMIT\n")?;
            let text = traced(t, P2, "10.96.6.9:80")?;
            let rejected =
                "refused: the answer by another program's rule: ip filter FORWARD handle";
            shows(t, &text, &[rejected])
        }),
        case("a_trace_is_of_one_connection_of_a_busy_client", |t| {
            serve(t, "10.96.6.10", 30070, &[P1, P3])?;
            let load = t.load(P2, "10.96.6.10:80/tcp");
            load.wait_for(1);
            for _ in 0..3 {
                let text =
                    t.run_to_end("trace", &["--from", "10.244.1.12", "--to", "10.96.6.10:80"])?;
                for (once, count) in [("arrives by", 2), ("by IPVS", 2), ("leaves by", 2)] {
                    t.equal(&format!("{once:?} in {text}"), count, text.matches(once).count())?;
                }
                shows(t, &text, &["answered: by 10.244."])?;
            }
            t.expect_no_failure(load)
        }),
        case("a_trace_says_where_a_packet_is_gone", |t| {
            serve(t, "10.96.6.11", 30071, &[P3])?;
            let _hole = Temporary::ip(
                t.host(N1),
                "route add blackhole 10.244.2.13\n",
                "route delete blackhole 10.244.2.13\n",
            )?;
            let text = traced(t, P2, "10.96.6.11:80")?;
            let refused = "refused: by this node after hook input: IPVS has no endpoint for it";
            shows(t, &text, &[refused])?;
            // The address of no Service.
            let text = traced(t, C, "10.244.2.13:8080")?;
            shows(
                t,
                &text,
                &["gone: the packet after hook prerouting: the node has no route for it"],
            )
        }),
        case("a_trace_ends_without_an_answer", |t| {
            serve(t, "10.96.6.7", 30067, &[P1])?;
            let deaf = "chain input { type filter hook input priority 0; tcp dport 8080 drop; }";
            let deaf = Temporary::table(t.host(P1), "ip deaf", deaf)?;
            let text = t.run_to_end("trace", &["--from", "node", "--to", "10.96.6.7:80"])?;
            shows(
                t,
                &text,
                &["unanswered: the packet went to 10.244.1.11:8080 (shop/web-0 on n1)"],
            )?;
            // Addresses do without an agent.
            drop(deaf);
            t.agent().stop()?;
            let finished = t.command("trace", &["--from", "node", "--to", "10.96.6.7:80"])?;
            shows(t, &finished.stdout, &["answered: by 10.244.1.11:8080\n"])?;
            shows(t, &finished.stderr, &["names and reasons are left out: no agent answers"])?;
            let arguments = ["--from", "10.244.1.12", "--to", "10.96.6.7:80", "--wait", "10ms"];
            let finished = t.command("trace", &arguments)?;
            t.exits_with("no connection", 1, &finished)?;
            let said =
                finished.stderr.contains("no connection from 10.244.1.12 to 10.96.6.7:80/tcp");
            t.check("what it has waited for", said, finished.stderr)
        }),
        case("a_killed_trace_leaves_nothing", |t| {
            serve(t, "10.96.6.8", 30068, &[P1])?;
            let before = tables(t)?;
            let mut trace = begin(t, P2, "10.96.6.8:80")?;
            let busy = t.command("trace", &["--from", "node", "--to", "10.96.6.8:80"])?;
            t.exits_with("a second trace", 1, &busy)?;
            t.check("the reason", busy.stderr.contains("another trace runs"), busy.stderr)?;
            kill_process(Pid::from_child(&trace), Signal::KILL).map_err(std::io::Error::from)?;
            trace.wait()?;
            if is_owned_by_socket() {
                t.same_lines("tables after SIGKILL", &before, &tables(t)?)?;
            }
            // What an older kernel keeps.
            t.host(N1)
                .nft(&format!("add table ip {TABLE}\nadd chain ip {TABLE} prerouting-begin\n"))?;
            let doctor = t.command("doctor", &[])?;
            let named = format!("a trace was killed and has left table ip {TABLE}");
            t.check("`doctor` names it", doctor.stdout.contains(&named), doctor.stdout)?;
            t.run_to_end("trace", &["--from", "node", "--to", "10.96.6.8:80"])?;
            t.same_lines("tables after the next trace", &before, &tables(t)?)
        }),
    ]
}

/// A Service with a ClusterIP and a node port, at these pods.
fn serve(t: &mut TestContext<'_>, ip: &str, node_port: u16, pods: &[Host]) -> Step {
    t.apply(service("shop/web").cluster_ip(ip).port("http", 80).node_port(node_port))?;
    let slice = endpoints("shop/web").port("http", 8080);
    t.apply(pods.iter().fold(slice, |slice, pod| slice.ready_on(*pod)).pod("web-0"))?;
    t.settled()
}

/// Traces the connection that a host opens meanwhile. The tables have to be as before.
fn traced(t: &mut TestContext<'_>, from: Host, to: &str) -> Step<String> {
    let before = tables(t)?;
    let trace = begin(t, from, to)?;
    let to = to.parse().unwrap_or_else(|error| panic!("{error}"));
    // It may be dropped, or refused.
    let _ = ask(t.host(from), to, SHORT_PATIENCE);
    let output = trace.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    t.check("the trace succeeds", output.status.success(), &text)?;
    t.same_lines("tables", &before, &tables(t)?)?;
    Ok(text)
}

/// Begins a trace, and waits until it waits.
fn begin(t: &mut TestContext<'_>, from: Host, to: &str) -> Step<Child> {
    let family = if to.starts_with('[') { Family::V6 } else { Family::V4 };
    let from = from.ip(family).to_string();
    let trace = t.agent().begin(&["trace", "--from", &from, "--to", to])?;
    patiently(LONG_PATIENCE, || {
        let tables = tables(t)?;
        t.check("the trace has begun", tables.contains(TABLE), tables)
    })?;
    Ok(trace)
}

fn tables(t: &TestContext<'_>) -> Step<String> {
    Ok(t.host(N1).read("nft", &["list", "tables"])?)
}

/// Whether the kernel deletes the table with the socket that has made it.
fn is_owned_by_socket() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next()) >= (5, 12)
}

/// Each of these texts is there, one after the other.
fn shows(t: &TestContext<'_>, text: &str, expected: &[&str]) -> Step {
    let mut rest = text;
    for wanted in expected {
        let found = rest.find(wanted);
        t.check(&format!("{wanted:?} in its place"), found.is_some(), text)?;
        rest = &rest[found.unwrap_or_default() + wanted.len()..];
    }
    Ok(())
}
