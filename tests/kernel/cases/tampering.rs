//! What others do to the kernel's state that is ours is put right.

use super::{Case, case};
use crate::context::{Failure, LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{endpoints, service};

/// By `ip` (false) or `nft` (true). Without the agent's ears, an audit would find them after
/// minutes.
const HARM: [(bool, &str); 7] = [
    (true, "delete table ip kube-ipvs"),
    (true, "delete table arp kube-ipvs"),
    (true, "flush set ip kube-ipvs pools"),
    (true, "flush chain ip kube-ipvs input"),
    (true, "add element ip6 kube-ipvs refused { 2001:db8:50::1 . tcp . 8443 }"),
    (false, "route delete local 10.96.9.30 dev lo table local proto 75"),
    (false, "link delete kube-ipvs0"),
];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("drift_in_tables_and_routes_is_repaired_at_once", |t| {
            served(t)?;
            t.settled()?;
            let before = words(t)?;
            for (nft, command) in HARM {
                if nft {
                    t.host(N1).nft(command)?;
                } else {
                    t.host(N1).ip(command)?;
                }
                until(t, command, &before)?;
            }
            t.expect(P2, "10.96.9.30:80/tcp", Answers::from_all([P1, P3]))?;
            t.expect(C, "203.0.113.130:80/udp", Answers::from_all([P1, P3]))
        }),
        case("setting_drift_is_repaired", |t| {
            t.agent().configure("auditPeriod: 1s")?;
            served(t)?;
            t.settled()?;
            for (setting, times) in [("net.ipv4.ip_forward", 4), ("net.ipv4.vs.conntrack", 1)] {
                for _ in 0..times {
                    t.host(N1).sysctl(&[&format!("{setting}=0")])?;
                    let path = format!("/proc/sys/{}", setting.replace('.', "/"));
                    patiently(LONG_PATIENCE, || {
                        t.equal(setting, "1", t.host(N1).read("cat", &[&path])?.trim())
                    })?;
                }
                t.agent().wait_for_log(&format!("{setting} 0 -> 1"))?;
            }
            t.agent().wait_for_log("SettingDrift")?;
            t.expect(C, "203.0.113.130:80/tcp", Answers::from_all([P1, P3]))
        }),
        case("drift_in_ipvs_is_repaired_within_a_minute", |t| {
            // By default, when the next audit of everything is minutes away.
            served(t)?;
            t.settled()?;
            let before = words(t)?;
            let harms = [
                "-e -t 10.96.9.30:80 -r 10.244.1.11:8080 -m -w 7",
                "-E -t 10.96.9.30:80 -s lc",
                "-d -u 10.96.9.30:80 -r 10.244.1.11:8080",
            ];
            for command in harms {
                t.host(N1).read("ipvsadm", &command.split(' ').collect::<Vec<_>>())?;
            }
            until(t, "all of them", &before)?;
            t.agent()
                .wait_for_log("another program has changed the kernel's state: repairing it")?;
            t.expect(P2, "10.96.9.30:80/tcp", Answers::from_all([P1, P3]))
        }),
        case("an_audit_repairs_ipvs", |t| {
            t.agent().configure("auditPeriod: 1s")?;
            served(t)?;
            t.settled()?;
            let before = words(t)?;
            for command in [
                "-C",
                "-d -t 10.96.9.30:80 -r 10.244.1.11:8080",
                "-e -t 10.96.9.30:80 -r 10.244.1.11:8080 -m -w 7",
                "-a -t 10.96.9.30:80 -r 10.244.9.9:8080 -m",
                "-E -t 10.96.9.30:80 -s lc",
                "-A -t 10.96.99.99:80 -s rr",
            ] {
                t.host(N1).read("ipvsadm", &command.split(' ').collect::<Vec<_>>())?;
                until(t, command, &before)?;
            }
            t.expect(P2, "10.96.9.30:80/tcp", Answers::from_all([P1, P3]))
        }),
    ]
}

fn served(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/tampered").cluster_ip("10.96.9.30").port("tcp", 80);
    t.apply(web.udp("udp", 80).load_balancer_ip("203.0.113.130"))?;
    let slice = endpoints("dev/tampered").port("tcp", 8080).udp("udp", 8080);
    t.apply(slice.ready_on(P1).ready_on(P3))
}

/// What the kernel holds. Sets are printed in any order, and a device that is created again has another
/// number and hardware address.
fn words(t: &TestContext<'_>) -> Step<Vec<String>> {
    let state = t.kernel()?.to_string();
    let lines = state.lines().filter(|line| !line.contains("link/ether"));
    let words = lines.flat_map(str::split_whitespace);
    let mut words: Vec<_> = words.map(|word| word.trim_end_matches(',').to_owned()).collect();
    words.sort();
    Ok(words)
}

/// Waits until the kernel holds the same as before the harm.
fn until(t: &TestContext<'_>, harm: &str, before: &[String]) -> Step {
    patiently(LONG_PATIENCE, || match words(t)? == before {
        true => Ok(()),
        false => Err(Failure::new(harm, "put right", t.kernel()?)),
    })
}
