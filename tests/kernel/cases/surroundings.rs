//! What other programs have made of the node.

use kube_ipvs::kernel::route::WITHOUT_IPV6;

use super::{Case, case};
use crate::context::{Step, TestContext, patiently};
use crate::expectation::{Answers, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{PATIENCE, Temporary, endpoints, endpoints_of_both, product, service};

/// `doctor` knows the ranges that it is told of.
const RANGES: &str = "serviceCIDRs: [10.96.0.0/12, 'fd00:96::/108']";

/// What matters of firewalld's own table, as `nft` lists it where no zone opens anything.
const FIREWALLD: &str = "
chain filter_INPUT {
    type filter hook input priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname lo accept
    jump filter_INPUT_ZONES
    ct state invalid drop
    reject with icmpx type admin-prohibited
}
chain filter_FORWARD {
    type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname lo accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    ct state invalid drop
    reject with icmpx type admin-prohibited
}
chain filter_INPUT_ZONES {
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
}";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("without_ipv6_in_the_kernel_ipv4_is_served_as_ever", without_ipv6),
        case("a_forward_policy_is_mended_as_doctor_says", |t| {
            mended(
                t,
                "forward",
                "chain forward { type filter hook forward priority 0; policy drop; }",
            )
        }),
        case("an_input_policy_is_mended_as_doctor_says", |t| {
            // Without neighbour discovery there is no IPv6 at all.
            let rules = "meta l4proto ipv6-icmp accept; iif lo accept;";
            let chain = format!(
                "chain input {{ type filter hook input priority 0; policy drop; {rules} }}"
            );
            mended(t, "input", &chain)
        }),
        case("policies_of_iptables_are_mended_as_doctor_says", |t| {
            t.agent().configure(RANGES)?;
            served(t, true)?;
            t.settled()?;
            for (hook, rules) in [("FORWARD", ""), ("INPUT", "-A INPUT -p ipv6-icmp -j ACCEPT\n")] {
                let policy = format!("*filter\n:{hook} DROP [0:0]\n");
                let (v4, v6) = (format!("{policy}COMMIT\n"), format!("{policy}{rules}COMMIT\n"));
                let _strict = Temporary::iptables(t.host(N1), &v4, &v6)?;
                t.expect(C, "10.96.9.10:80/tcp", Silent)?;
                t.expect(C, "[fd00:96::90a]:80/tcp", Silent)?;
                mended_by_doctor(t, &[format!("ip filter {hook}"), format!("ip6 filter {hook}")])?;
            }
            Ok(())
        }),
        case("a_last_rule_of_iptables_is_mended_as_doctor_says", |t| {
            t.agent().configure(RANGES)?;
            served(t, true)?;
            t.settled()?;
            let (v4, v6) = ["icmp-host-prohibited", "icmp6-adm-prohibited"]
                .map(|why| format!("*filter\n-A FORWARD -j REJECT --reject-with {why}\nCOMMIT\n"))
                .into();
            let _strict = Temporary::iptables(t.host(N1), &v4, &v6)?;
            let answer = t.ask(C, "203.0.113.110:80/tcp");
            t.check("no answer", answer.is_err(), "an answer")?;
            mended_by_doctor(t, &["ip filter FORWARD".to_owned(), "ip6 filter FORWARD".to_owned()])
        }),
        case("a_forward_policy_is_reported_at_start_and_by_audits", |t| {
            t.agent().configure(RANGES)?;
            served(t, true)?;
            t.settled()?;
            let policy = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
            let _docker = Temporary::iptables(t.host(N1), policy, policy)?;
            t.expect(N1, "10.96.9.10:80/tcp", Answers::from_all([P1, P3]))?;
            t.expect(C, "203.0.113.110:80/tcp", Silent)?;
            t.expect(P2, "10.96.9.10:80/tcp", Silent)?;
            // An audit.
            t.host(N1).nft("flush chain ip kube-ipvs forward")?;
            told(t, "ip filter FORWARD drops")?;
            let line = "kube_ipvs_check_status{check=\"firewall\",status=\"fail\"} 1";
            t.check("the metric says so, too", t.metrics()?.contains(line), line)?;
            let status = t.agent().command("status", &[])?.stdout;
            t.check("status says so, too", status.contains("check firewall fail: "), &status)?;
            // A start.
            t.agent().stop()?;
            t.settled()?;
            told(t, "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT")?;
            mended_by_doctor(
                t,
                &["ip filter FORWARD".to_owned(), "ip6 filter FORWARD".to_owned()],
            )?;
            datagrams_without_an_answer_arrive(t)?;
            t.host(N1).nft("flush chain ip kube-ipvs forward")?;
            t.agent().wait_for_log("the check is ok again")?;
            let line = "kube_ipvs_check_status{check=\"firewall\",status=\"ok\"} 1";
            t.check("the metric says so, too", t.metrics()?.contains(line), line)
        }),
        case("traffic_that_firewalld_accepts_is_served", |t| {
            t.agent().configure(RANGES)?;
            served(t, true)?;
            t.settled()?;
            let _zones = Temporary::table(t.host(N1), "inet firewalld", FIREWALLD)?;
            let front_ends = ["203.0.113.110:80/tcp", "192.168.50.1:31945/tcp"];
            for (client, to) in product([C, P2, N1], front_ends) {
                t.expect(client, to, Answers::from_all([P1, P3]))?;
            }
            for cluster_ip in ["10.96.9.10:80/tcp", "[fd00:96::90a]:80/tcp"] {
                t.expect(N1, cluster_ip, Answers::from_all([P1, P3]))?;
            }
            let answer = t.ask(P2, "10.96.9.10:80/tcp");
            t.check("a ClusterIP is refused to pods", answer.is_err(), "an answer")?;
            t.agent().stop()?;
            t.settled()?;
            told(
                t,
                "inet firewalld filter_INPUT drops what it does not know, and has no rule for ClusterIPs",
            )?;
            let log = t.agent().log();
            t.check("and no other chain", !log.contains("filter_FORWARD"), &log)?;

            t.agent().configure(&format!("{RANGES}\ncarry: all"))?;
            t.settled()?;
            for (client, to) in product([C, P2, N1], ["10.96.9.10", "[fd00:96::90a]"]) {
                t.expect(client, &format!("{to}:80/tcp"), Answers::from_all([P1, P3]))?;
            }
            let log = t.agent().log();
            t.check("nothing is told", !log.contains("FirewallDrops"), &log)
        }),
        case("reverse_path_filters", |t| {
            served(t, true)?;
            t.settled()?;
            for value in 0..=2 {
                let settings = ["all", "default", "eth0", "cni0", "lo"]
                    .map(|device| format!("net.ipv4.conf.{device}.rp_filter={value}"));
                let settings = settings.each_ref().map(String::as_str);
                let _filter = Temporary::sysctl(t.host(N1), &settings)?;
                for front_end in ["10.96.9.10:80", "203.0.113.110:80", "192.168.50.1:31945"] {
                    for client in [P2, N1, C] {
                        let both = Answers::from_all([P1, P3]);
                        t.expect(client, &format!("{front_end}/tcp"), both)?;
                    }
                }
            }
            Ok(())
        }),
        case("bridged_packets_are_seen_again", |t| {
            served(t, false)?;
            t.settled()?;
            t.agent().stop()?;
            let _setting = Temporary::sysctl(
                t.host(N1),
                &["net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"],
            )?;
            let doctor = t.command("doctor", &[])?.stdout;
            let told = doctor.contains("bridge-nf-call-iptables is 0");
            t.check("`doctor` says so", told, &doctor)?;
            t.settled()?;
            // From a pod to another one on the same bridge.
            t.expect(P2, "10.96.9.10:80/tcp", Answers::from(P1))?;
            t.expect(P2, "[fd00:96::90a]:80/tcp", Answers::from(P1))
        }),
    ]
}

/// From their second datagram on they are forwarded, and still new to connection tracking.
fn datagrams_without_an_answer_arrive(t: &mut TestContext<'_>) -> Step {
    let log = service("dev/oneway").cluster_ip("10.96.9.11").load_balancer_ip("203.0.113.111");
    t.apply(log.udp("udp", 80))?;
    t.apply(endpoints("dev/oneway").udp("udp", 8080).ready_on(P1))?;
    t.settled()?;
    let rules = "chain heard { type filter hook input priority 0; udp dport 8080 counter; }
                 chain silent { type filter hook output priority 0; udp sport 8080 drop; }";
    let _silent = Temporary::table(t.host(P1), "ip silent", rules)?;
    let flow = t.flow(C, "203.0.113.111:80/udp")?;
    for _ in 0..3 {
        flow.send()?;
    }
    patiently(PATIENCE, || {
        let heard = t.host(P1).read("nft", &["list", "table", "ip", "silent"])?;
        t.check("three datagrams", heard.contains("counter packets 3 "), &heard)
    })
}

/// The agent has said so, as a notice.
fn told(t: &mut TestContext<'_>, text: &str) -> Step {
    t.agent().wait_for_log("FirewallDrops")?;
    let log = t.agent().log();
    let is_told = log.lines().any(|line| line.contains("FirewallDrops") && line.contains(text));
    t.check("a notice says it", is_told, log)
}

/// A Service with an endpoint on this node, and one on the other if there are to be `both`.
fn served(t: &mut TestContext<'_>, both: bool) -> Step {
    let web = service("dev/surrounded").cluster_ip("10.96.9.10").cluster_ip("fd00:96::90a");
    let web = web.port("http", 80).node_port(31_945);
    t.apply(web.load_balancer_ip("203.0.113.110"))?;
    for slice in endpoints_of_both("dev/surrounded") {
        let slice = slice.port("http", 8080).ready_on(P1);
        t.apply(if both { slice.ready_on(P3) } else { slice })?;
    }
    Ok(())
}

/// A foreign chain drops what it does not know, until it gets exactly the rules that `doctor`
/// prints.
fn mended(t: &mut TestContext<'_>, name: &str, chain: &str) -> Step {
    t.agent().configure(RANGES)?;
    served(t, true)?;
    t.settled()?;
    let _strict = Temporary::table(t.host(N1), "inet strict", chain)?;
    t.expect(C, "10.96.9.10:80/tcp", Silent)?;
    mended_by_doctor(t, &[format!("inet strict {name}")])
}

/// `doctor` names the chains, and the commands that it prints let all service traffic in.
fn mended_by_doctor(t: &TestContext<'_>, chains: &[String]) -> Step {
    let doctor = t.command("doctor", &[])?.stdout;
    for chain in chains {
        t.check(&format!("`doctor` names {chain}"), doctor.contains(chain), &doctor)?;
    }
    let lines = doctor.lines().map(|line| line.trim().split(' ').collect::<Vec<_>>());
    let is_command = |line: &Vec<&str>| ["nft", "iptables", "ip6tables"].contains(&line[0]);
    let commands: Vec<_> = lines.filter(is_command).collect();
    t.check("`doctor` prints commands", !commands.is_empty(), &doctor)?;
    for command in commands {
        t.host(N1).read(command[0], &command[1..])?;
    }
    for client in [P2, N1, C] {
        for ip in ["10.96.9.10", "[fd00:96::90a]"] {
            t.expect(client, &format!("{ip}:80/tcp"), Answers::from_all([P1, P3]))?;
        }
    }
    t.expect(C, "192.168.50.1:31945/tcp", Answers::from_all([P1, P3]))?;
    t.expect(C, "[fd00:50::1]:31945/tcp", Answers::from_all([P1, P3]))?;
    t.expect(C, "203.0.113.110:80/tcp", Answers::from_all([P1, P3]))?;
    // Others that are in the way are read all the same.
    let doctor = t.command("doctor", &[])?.stdout;
    let is_mended = chains.iter().all(|chain| !doctor.contains(&format!("{chain} drops")));
    t.check("`doctor` sees that they are let in", is_mended, doctor)
}

/// Services of both families, on a kernel that has been booted with `ipv6.disable=1`.
fn without_ipv6(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/web").cluster_ip("10.96.9.14").cluster_ip("fd00:96::90e");
    let web = web.port("http", 80).node_port(30914).load_balancer_ip("203.0.113.114");
    t.apply(web.load_balancer_ip("2001:db8:113::114"))?;
    let local = service("dev/local").cluster_ip("10.96.9.15").cluster_ip("fd00:96::90f");
    let local = local.port("http", 80).node_port(30916).spec("type", "LoadBalancer");
    t.apply(local.local_external().spec("healthCheckNodePort", 30915))?;
    let [slice, of_ipv6] = endpoints_of_both("dev/web");
    t.apply(slice.port("http", 8080).ready_on(P1).ready_on(P3))?;
    t.apply(of_ipv6.port("http", 8080).ready_on(P1).ready_on(P3))?;
    for _ in 0..2 {
        t.agent().start()?;
        // No operation is left over.
        t.settled()?;
        for (client, to) in
            product([P2, N1, C], ["10.96.9.14:80", "203.0.113.114:80", "192.168.50.1:30914"])
        {
            t.expect(client, &format!("{to}/tcp"), Answers::from_all([P1, P3]))?;
        }
        let log = t.agent().log();
        // The table's size is the machine's, and not to be set from a namespace.
        let is_known = |it: &&str| it.contains("nf_conntrack_max");
        let warnings = log.lines().filter(|it| it.contains(" WARN ") && !is_known(it));
        let is_once = matches!(&*warnings.collect::<Vec<_>>(), [it] if it.contains(WITHOUT_IPV6));
        t.check("the log names it once, and nothing else", is_once, &log)?;
        t.agent().stop()?;
    }
    let doctor = t.command("doctor", &[])?;
    t.exits_with("`doctor`", 0, &doctor)?;
    let told = doctor.stdout.matches(WITHOUT_IPV6).count();
    t.check("`doctor` names it once", told == 1, &doctor.stdout)?;
    t.run_to_end("cleanup", &[]).map(drop)
}
