//! Only what is ours is touched, and nothing that is already right is written.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{SliceBuilder, endpoints, endpoints_of_both, product, service, service_cidr};

/// A virtual server, a table, a route and a rule of another program.
const FOREIGN_IPVS: &str =
    "-A -t 192.0.2.10:443 -s wrr\n-a -t 192.0.2.10:443 -r 10.244.1.11:8080 -m -w 3\n";
const FOREIGN_NFT: &str = "
add table inet somebody
add set inet somebody s { type ipv4_addr; elements = { 192.0.2.10 }; }
add chain inet somebody c { type filter hook input priority 0; }
add rule inet somebody c ip daddr @s counter accept
";
const FOREIGN_ROUTES: &str = "link add somebody type dummy\nlink set somebody up
route add local 192.0.2.10/32 dev somebody table local\nroute add 192.0.2.0/28 dev somebody table 99
rule add to 192.0.2.0/28 lookup 99 pref 99\n";

/// The lines that `cleanup` prints, of its answer in JSON: the answer itself if it is another.
pub(crate) fn lines_of_cleanup(json: &str) -> String {
    let answer: Value = serde_json::from_str(json).unwrap_or_default();
    let signs = [("add", "+"), ("change", "~"), ("remove", "-")];
    let line = |operation: &Value| {
        let sign = signs.iter().find(|(effect, _)| operation["effect"] == *effect);
        Some(format!("{} {}\n", sign?.1, operation["command"].as_str()?))
    };
    let is_whole = answer["failures"] == json!([]) && answer["byHand"] == json!([]);
    let operations = answer["operations"].as_array().filter(|_| is_whole);
    let lines: Option<String> = operations.and_then(|all| all.iter().map(line).collect());
    lines.unwrap_or_else(|| json.to_owned())
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("foreign_objects_are_untouched", foreign_objects_are_untouched),
        case("cleanup_removes_all_our_objects", |t| {
            t.agent().stop()?;
            t.run_to_end("cleanup", &[])?;
            let before = t.kernel()?;
            some_services(t)?;
            t.settled()?;
            t.check("the kernel holds something", t.kernel()? != before, "nothing")?;
            t.agent().stop()?;
            let full = t.kernel()?.to_string();
            let planned = t.run_to_end("cleanup", &["--dry-run"])?;
            let json = t.run_to_end("cleanup", &["--dry-run", "-o", "json"])?;
            t.same_lines("the same in JSON", &planned, &lines_of_cleanup(&json))?;
            t.same_lines("the kernel after a dry run", &full, &t.kernel()?.to_string())?;
            let removed = t.run_to_end("cleanup", &["-o", "json"])?;
            t.same_lines("what a dry run has printed", &planned, &lines_of_cleanup(&removed))?;
            t.same_lines(
                "the kernel after cleanup",
                &before.to_string(),
                &t.kernel()?.to_string(),
            )?;
            // Once more on a clean node: nothing to do is no error.
            t.run_to_end("cleanup", &[])?;
            // What an older kernel keeps of a trace that is killed.
            let table = "table ip kube-ipvs-trace";
            t.host(N1).nft(&format!("{table} {{\n chain input-end {{\n }}\n}}\n"))?;
            let said = t.run_to_end("cleanup", &[])?;
            t.same_lines("what `cleanup` says", &format!("- nft delete {table}\n"), &said)?;
            let tables = t.host(N1).read("nft", &["list", "tables"])?;
            t.check("it is deleted", !tables.contains(table), &tables)
        }),
        case("an_equal_state_costs_no_write", |t| {
            some_services(t)?;
            t.settled()?;
            t.agent().stop()?;
            let before = t.kernel()?;
            let notifications = t.notifications()?;
            t.settled()?;
            let line = t.agent().synced_line().unwrap_or_default();
            t.check("the log says `operations=0`", line.contains("operations=0"), line)?;
            let (nft, route) = notifications.count();
            t.equal("changes of nf_tables", 0, nft)?;
            t.equal("changes of routes, rules, links and addresses", 0, route)?;
            t.same_lines("the kernel", &before.to_string(), &t.kernel()?.to_string())?;
            t.expect(P2, "10.96.4.1:80/tcp", Answers::from_all([P1, P3]))
        }),
        case("flushed_tables_are_programmed_again", |t| {
            // Nor is the range known that its ClusterIP comes from.
            t.agent().delete(&service_cidr("kubernetes", &[]).into())?;
            let gone = service("dev/gone").cluster_ip("10.96.4.9").port("http", 80);
            t.apply(gone.clone())?;
            t.apply(endpoints("dev/gone").port("http", 8080).ready_on(P1))?;
            some_services(t)?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.4.1:80/tcp")?;
            t.agent().stop()?;
            t.host(N1).nft("flush ruleset")?;
            t.delete(gone)?;
            t.settled()?;
            t.eventually_held("the Service that went", |ipvs| !ipvs.contains("10.96.4.9"))?;
            t.expect(P2, "10.96.4.1:80/tcp", Answers::from_all([P1, P3]))?;
            t.expect_answer(&mut open, "the connection from before").map(drop)
        }),
        case("the_end_of_the_agent_ends_no_traffic", the_end_of_the_agent_ends_no_traffic),
    ]
}

fn slice() -> SliceBuilder {
    endpoints("dev/first").port("http", 8080).udp("udp", 8080)
}

fn some_services(t: &mut TestContext<'_>) -> Step {
    let first = service("dev/first").cluster_ip("10.96.4.1").cluster_ip("fd00:96::401");
    t.apply(first.port("http", 80).udp("udp", 80))?;
    t.apply(slice().ready_on(P1).ready_on(P3))?;
    let second = service("dev/second").cluster_ip("10.96.4.2").cluster_ip("fd00:96::402");
    let second = second.load_balancer_ip("203.0.113.104").load_balancer_ip("2001:db8:113::104");
    t.apply(second.port("http", 80))
}

fn the_end_of_the_agent_ends_no_traffic(t: &mut TestContext<'_>) -> Step {
    /// What a client may have asked for: a ClusterIP, a load balancer IP and a node port.
    const FRONT_ENDS: [&str; 5] = [
        "10.96.4.3:80/tcp",
        "203.0.113.105:80/tcp",
        "192.168.50.1:30403/tcp",
        "[fd00:96::403]:80/tcp",
        "[2001:db8:113::105]:80/tcp",
    ];
    some_services(t)?;
    let third = service("dev/third").cluster_ip("10.96.4.3").cluster_ip("fd00:96::403");
    let third = third.load_balancer_ip("203.0.113.105").load_balancer_ip("2001:db8:113::105");
    t.apply(third.port("http", 80).node_port(30_403))?;
    for slice in endpoints_of_both("dev/third") {
        t.apply(slice.port("http", 8080).ready_on(P3))?;
    }
    t.settled()?;
    let mut open = product([P2, N1, C], FRONT_ENDS)
        .map(|(client, to)| Ok((format!("{client}'s connection to {to}"), t.connect(client, to)?)))
        .collect::<Step<Vec<_>>>()?;
    // Another virtual server than those that are asked below, where it would take turns.
    let load = t.load(N1, "10.96.4.1:80/udp");
    for signal in [Signal::INT, Signal::HUP, Signal::KILL, Signal::TERM] {
        let before = t.kernel()?;
        let status = t.agent().end_by(signal)?;
        let is_asked = [Signal::INT, Signal::TERM].contains(&signal);
        let is_at_will = status.is_some_and(|status| status.success());
        t.equal(&format!("the agent ends by itself at {signal:?}"), is_asked, is_at_will)?;
        t.same_lines("what it leaves", &before.to_string(), &t.kernel()?.to_string())?;
        t.expect(P2, "10.96.4.1:80/tcp", Answers::from_all([P1, P3]))?;
        for (client, to) in product([P2, N1, C], FRONT_ENDS) {
            t.expect(client, to, Answers::from(P3))?;
        }
        t.still_answer(&mut open)?;
        if signal != Signal::TERM {
            t.settled()?;
        }
    }
    // Drift without an agent is repaired at the start.
    t.apply(slice().terminating_on(P1).ready_on(P3))?;
    t.delete(service("dev/second"))?;
    t.settled()?;
    t.expect(P2, "10.96.4.1:80/tcp", Answers::from(P3))?;
    t.expect_no_failure(load)?;
    t.still_answer(&mut open)
}

fn foreign_objects_are_untouched(t: &mut TestContext<'_>) -> Step {
    t.agent().stop()?;
    t.run_to_end("cleanup", &[])?;
    let node = std::sync::Arc::clone(t.host(N1));
    node.ipvsadm(FOREIGN_IPVS)?;
    node.nft(FOREIGN_NFT)?;
    node.ip(FOREIGN_ROUTES)?;
    let foreign = t.kernel()?.to_string();

    some_services(t)?;
    t.settled()?;
    t.apply(slice().ready_on(P3))?;
    t.settled()?;
    t.expect(P2, "10.96.4.1:80/tcp", Answers::from(P3))?;
    let during = t.kernel()?.to_string();
    let lost: Vec<&str> =
        foreign.lines().filter(|line| !during.lines().any(|other| other == *line)).collect();
    t.check("all lines of somebody else's are still there", lost.is_empty(), lost.join("\n"))?;

    t.agent().stop()?;
    t.run_to_end("cleanup", &[])?;
    t.same_lines("the kernel after cleanup", &foreign, &t.kernel()?.to_string())?;

    node.read("ipvsadm", &["-D", "-t", "192.0.2.10:443"])?;
    node.nft("delete table inet somebody")?;
    node.ip("rule delete pref 99\nlink delete somebody\n")?;
    Ok(())
}
