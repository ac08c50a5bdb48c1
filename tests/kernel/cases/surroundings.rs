//! What other programs have made of the node.

use kube_ipvs::model::Protocol::Tcp;

use super::{Case, case};
use crate::expectation::{Answers, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{Temporary, endpoints_of_both, service};
use crate::trial::{Step, Trial};

/// `doctor` knows the ranges that it is told of.
const RANGES: &str = "serviceCIDRs: [10.96.0.0/12, 'fd00:96::/108']";

pub(crate) fn cases() -> Vec<Case> {
    vec![
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

/// A Service with an endpoint on this node, and one on the other if there are to be `both`.
fn served(t: &mut Trial<'_>, both: bool) -> Step {
    let web = service("dev/surrounded").cluster_ip("10.96.9.10").cluster_ip("fd00:96::90a");
    let web = web.port(80, "http", Tcp).node_port(31_945);
    t.apply(web.ingress("203.0.113.110"))?;
    for slice in endpoints_of_both("dev/surrounded") {
        let slice = slice.port("http", 8080, Tcp).ready(P1);
        t.apply(if both { slice.ready(P3) } else { slice })?;
    }
    Ok(())
}

/// Somebody's chain drops what it does not know, until it gets exactly the rules that `doctor`
/// prints.
fn mended(t: &mut Trial<'_>, name: &str, chain: &str) -> Step {
    t.agent().configure(RANGES)?;
    served(t, true)?;
    t.settled()?;
    let _strict = Temporary::table(t.host(N1), "inet strict", chain)?;
    t.expect(C, "10.96.9.10:80/tcp", Silent)?;
    mended_by_doctor(t, &[format!("inet strict {name}")])
}

/// `doctor` names the chains, and the commands that it prints let all service traffic in.
fn mended_by_doctor(t: &Trial<'_>, chains: &[String]) -> Step {
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
    t.expect(C, "203.0.113.110:80/tcp", Answers::from_all([P1, P3]))
}
