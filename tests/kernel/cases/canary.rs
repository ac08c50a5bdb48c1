//! The agent's probes of its own data path.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kube_ipvs::client::{AgentClient, AgentError};
use kube_ipvs_core::canary::{CANARY_DEVICE, NAMESPACE, path};

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::lab::Host::{N1, P1, P2};
use crate::lab::{Temporary, endpoints, families, service};

/// The shortest time after which `/healthz` follows.
const FOLLOWING: &str = "canary: true\nhealthzFollowsCanary: true";

/// The kernel keeps 500 packets for the agent.
const MORE_THAN_THE_QUEUE: usize = 600;

/// Hides the directory of the device that creates others.
const WITHOUT_TUN: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\""];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("the_canary_is_well_on_a_healthy_node", well_on_a_healthy_node),
        case("the_canary_is_well_however_connections_are_carried", |t| {
            // As many distributions have it.
            let node = Arc::clone(t.host(N1));
            let _strict = Temporary::sysctl(&node, &["net.ipv4.conf.all.rp_filter=1"])?;
            for carry in ["all", "offload\noffloadInterfaces: [eth0]"] {
                t.agent().configure(&format!("canary: true\ncarry: {carry}"))?;
                t.settled()?;
                eventually(t, "well")?;
            }
            Ok(())
        }),
        case("the_canary_is_a_pod_however_pods_are_recognised", |t| {
            // The node also sends the endpoint ICMP redirects.
            let at = "meta l4proto tcp ip daddr 169.254.75.2 ip saddr";
            watch(t, &format!("{at} 169.254.75.1 counter; {at} != 169.254.75.1 counter;"))?;
            for options in [
                "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}",
                "detectLocalMode: NodeCIDR",
                "iptables: {masqueradeAll: true}",
            ] {
                t.agent().stop()?;
                let defaults = "defaults: {front-ends: NodePort, max-connections: 1, eject: 1s}";
                t.agent().reconfigure(&format!("canary: true\n{defaults}"), options)?;
                t.settled()?;
                eventually(t, "well")?;
            }
            let [kept, replaced] = watched(t)?[..] else { panic!("two counters") };
            t.check(
                "the source is the client's",
                kept >= 3 && replaced == 0,
                format!("{kept}, {replaced}"),
            )
        }),
        case("a_dropped_answer_fails_the_canary_until_it_passes", |t| {
            let drop = format!(
                "table inet foreign {{ chain forward {{ type filter hook forward priority 0; \
                 iifname {CANARY_DEVICE} drop; }}; }}"
            );
            fails_and_recovers(t, &drop, "do not reach the client 169.254.75.1")
        }),
        case("a_dropped_request_fails_the_canary_until_it_passes", |t| {
            let drop = format!(
                "table inet foreign {{ chain prerouting {{ type filter hook prerouting priority -300; \
                 iifname {CANARY_DEVICE} tcp flags syn drop; }}; }}"
            );
            fails_and_recovers(t, &drop, "do not reach the endpoint 169.254.75.2:8080")
        }),
        case("a_missing_virtual_server_fails_the_canary", |t| {
            t.agent().configure("canary: true")?;
            t.settled()?;
            eventually(t, "well")?;
            let delete = |family| {
                let at = path(family).front_end;
                let at = std::net::SocketAddr::new(at.ip, at.port).to_string();
                // It may be gone already.
                let _ = t.host(N1).read("ipvsadm", &["-D", "-t", &at]);
            };
            patiently(LONG_PATIENCE, || {
                families().for_each(delete);
                every(t, "failing")
            })?;
            t.agent().wait_for_log("the node refuses 169.254.75.10:80/tcp")?;
            // The agent's next round repairs it.
            eventually(t, "well")
        }),
        case("probes_leave_the_node_by_no_interface_and_are_soon_forgotten", |t| {
            let rules =
                [("ip", "169.254.75.0/24"), ("ip6", "fd2a:1511:a028::/48")].map(|(ip, of)| {
                    let other = format!("oifname != {CANARY_DEVICE}");
                    format!("{other} {ip} saddr {of} counter; {other} {ip} daddr {of} counter; ")
                });
            watch(t, &rules.concat())?;
            t.agent().configure("canary: true")?;
            t.settled()?;
            patiently(LONG_PATIENCE, || {
                let metrics = t.metrics()?;
                t.check("probes", count_of(&metrics, "answered") >= 10, &metrics)
            })?;
            t.check("no packet", watched(t)? == [0; 4], "packets")?;
            let tracked = t.host(N1).read("conntrack", &["-L", "-s", "169.254.75.1"])?;
            t.equal("tracked connections", "", tracked.trim())
        }),
        case("the_canary_outlives_what_others_do_to_its_device", |t| {
            t.agent().configure("canary: true")?;
            t.settled()?;
            eventually(t, "well")?;
            for line in [
                "link set ipvs-canary down",
                "link del ipvs-canary",
                "route flush table main dev ipvs-canary",
            ] {
                t.host(N1).ip(line)?;
                let before = count_of(&t.metrics()?, "answered");
                patiently(LONG_PATIENCE, || {
                    let metrics = t.metrics()?;
                    t.check(line, count_of(&metrics, "answered") >= before + 4, &metrics)
                })?;
            }
            every(t, "well")?;
            let log = t.agent().log();
            t.check("no alarm", !log.contains("CanaryFails"), &log)
        }),
        case("strangers_at_its_address_do_not_fail_the_canary", |t| {
            t.agent().configure("canary: true")?;
            t.settled()?;
            eventually(t, "well")?;
            let stopping = Arc::new(AtomicBool::new(false));
            let (pod, is_stopping) = (Arc::clone(t.host(P2)), Arc::clone(&stopping));
            let stranger = thread::spawn(move || {
                pod.enter().expect("root may enter a namespace that it has made");
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                while !is_stopping.load(Ordering::SeqCst) {
                    for _ in 0..MORE_THAN_THE_QUEUE {
                        let _ = socket.send_to(b"x", "169.254.75.2:9");
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            });
            let before = count_of(&t.metrics()?, "answered");
            let answered = patiently(LONG_PATIENCE, || {
                let metrics = t.metrics()?;
                t.check("probes", count_of(&metrics, "answered") >= before + 6, &metrics)
            });
            stopping.store(true, Ordering::SeqCst);
            let stopped = stranger.join().is_ok();
            answered?;
            t.check("packets came", stopped, "a panic")?;
            every(t, "well")?;
            let log = t.agent().log();
            t.check("no alarm", !log.contains("CanaryFails"), &log)
        }),
        case("without_ipv6_the_canary_probes_ipv4", |t| {
            t.agent().configure("canary: true")?;
            t.settled()?;
            eventually(t, "well")?;
            let metrics = t.metrics()?;
            let of_ipv6 = "kube_ipvs_canary_status{ip_family=\"IPv6\"";
            let mut others = metrics.lines().filter(|line| line.starts_with(of_ipv6));
            t.check("no verdict about IPv6", others.all(|line| line.ends_with(" 0")), &metrics)
        }),
        case("a_node_without_tun_says_what_the_canary_lacks", |t| {
            t.agent().configure(FOLLOWING)?;
            t.agent().start_under(&WITHOUT_TUN)?;
            eventually(t, "impossible")?;
            t.agent().wait_for_log("the data path is not probed: the device ipvs-canary")?;
            let doctor = t.command("doctor", &[])?;
            let line = doctor.stdout.lines().find(|line| line.contains(" canary "));
            let line = line.unwrap_or_default();
            t.check("doctor", line.contains("warn"), &doctor.stdout)?;
            t.check("doctor's remedy", doctor.stdout.contains("/dev/net/tun"), &doctor.stdout)?;
            healthz(t, 200)
        }),
    ]
}

fn well_on_a_healthy_node(t: &mut TestContext<'_>) -> Step {
    t.agent().configure(FOLLOWING)?;
    t.apply(service("dev/only").cluster_ip("10.96.9.70").port("http", 80))?;
    t.apply(endpoints("dev/only").port("http", 8080).ready_on(P1))?;
    t.settled()?;
    eventually(t, "well")?;
    healthz(t, 200)?;
    let metrics = t.metrics()?;
    t.check("it counts as no Service", metrics.contains("kube_ipvs_services 1\n"), &metrics)?;
    let listed = t.agent().bare_command(&["status"])?;
    t.check("`status` lists it", listed.stdout.contains(NAMESPACE), &listed.stdout)?;
    let doctor = t.command("doctor", &[])?;
    let is_well = doctor.stdout.contains("the agent's probes are answered");
    t.check("`doctor` says so", is_well, &doctor.stdout)?;
    let addresses = t.host(N1).read("ip", &["addr", "show", "dev", CANARY_DEVICE])?;
    t.check("the device has no address", !addresses.contains("inet"), &addresses)?;

    // It goes with the agent, however the agent ends, and the next agent makes it anew.
    t.agent().kill()?;
    gone(t)?;
    t.settled()?;
    eventually(t, "well")?;
    t.agent().reconfigure(FOLLOWING, "ipvs: {scheduler: lc}")?;
    t.eventually_held("another scheduler", |ipvs| ipvs.contains("-t 169.254.75.10:80 -s lc"))?;
    eventually(t, "well")?;
    let mut another = t.agent().another();
    another.spawn(&[])?;
    another.wait_for_log("another agent runs")?;
    // The other one takes over at once, and makes a device of its own.
    t.agent().stop()?;
    another.wait_for_log("the canary is answered")?;
    eventually(t, "well")?;
    another.stop()?;
    gone(t)?;
    t.run_to_end("cleanup", &[])?;
    let left = t.kernel()?.to_string();
    t.check("nothing is left", !left.contains("169.254.75."), &left)
}

/// By rules of another program, which `/healthz` follows only if it is told to.
fn fails_and_recovers(t: &mut TestContext<'_>, drop: &str, loss: &str) -> Step {
    for (options, status) in [("canary: true", 200), (FOLLOWING, 503)] {
        t.agent().configure(options)?;
        t.settled()?;
        eventually(t, "well")?;
        t.host(N1).nft(drop)?;
        eventually(t, "failing")?;
        patiently(LONG_PATIENCE, || healthz(t, status))?;
        t.agent().wait_for_log("CanaryFails")?;
        t.agent().wait_for_log(loss)?;
        let doctor = t.command("doctor", &[])?;
        t.exits_with("doctor", 1, &doctor)?;
        t.check("`doctor` says why", doctor.stdout.contains(loss), &doctor.stdout)?;
        t.check("/livez", probe(t, "/livez")? == 200, "it fails")?;
        t.host(N1).nft("delete table inet foreign")?;
        eventually(t, "well")?;
        t.agent().wait_for_log("the canary is answered again")?;
        healthz(t, 200)?;
    }
    Ok(())
}

/// Counts packets that leave a host or go on to an interface of its own.
fn watch(t: &TestContext<'_>, rules: &str) -> Step {
    let chain = format!("chain watch {{ type filter hook postrouting priority 300; {rules} }};");
    Ok(t.host(N1).nft(&format!("table inet watch {{ {chain} }}"))?)
}

/// Ends the count.
fn watched(t: &TestContext<'_>) -> Step<Vec<u64>> {
    let counters = t.host(N1).read("nft", &["list", "table", "inet", "watch"])?;
    t.host(N1).nft("delete table inet watch")?;
    let counted = counters.lines().filter_map(|line| {
        let (_, counted) = line.split_once("counter packets ")?;
        counted.split(' ').next()?.parse().ok()
    });
    Ok(counted.collect())
}

/// Waits until the canary has a status in every family.
fn eventually(t: &TestContext<'_>, status: &str) -> Step {
    patiently(LONG_PATIENCE, || every(t, status))
}

fn every(t: &TestContext<'_>, status: &str) -> Step {
    let metrics = t.metrics()?;
    families().try_for_each(|family| {
        let line =
            format!("kube_ipvs_canary_status{{ip_family=\"{family}\",status=\"{status}\"}} 1\n");
        t.check(&line, metrics.contains(&line), &metrics)
    })
}

/// The number of probes with a result.
fn count_of(metrics: &str, result: &str) -> u64 {
    let of_result = format!("result=\"{result}\"}} ");
    let lines = metrics.lines().filter(|line| line.starts_with("kube_ipvs_canary_probes_total"));
    lines.filter_map(|line| line.split_once(&of_result)?.1.parse::<u64>().ok()).sum()
}

/// Checks that neither the device nor its routes are there.
fn gone(t: &TestContext<'_>) -> Step {
    let links = t.host(N1).read("ip", &["link", "show"])?;
    t.check("the device is gone", !links.contains(CANARY_DEVICE), &links)?;
    for (family, prefix) in [("-4", "169.254.75."), ("-6", "fd2a:1511:a028:")] {
        let routes = t.host(N1).read("ip", &[family, "route", "show", "table", "main"])?;
        t.check("its routes are gone", !routes.contains(prefix), &routes)?;
    }
    Ok(())
}

fn healthz(t: &TestContext<'_>, expected: u16) -> Step {
    t.equal("/healthz", expected, probe(t, "/healthz")?)
}

/// The status of the answer to a probe of a load balancer or the kubelet.
fn probe(t: &TestContext<'_>, path: &str) -> Step<u16> {
    let client = AgentClient::new(([127, 0, 0, 1], 10256).into());
    let answer = t.host(N1).inside(|| match client.get(path) {
        Ok(_) => Ok(200),
        Err(AgentError::Refused { status, .. }) => Ok(status),
        Err(error) => Err(io::Error::other(error)),
    })?;
    Ok(answer)
}
