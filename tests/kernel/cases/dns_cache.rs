//! A DNS cache of the node, at an address of its own and at the ClusterIP of the cluster's DNS.

use std::io;
use std::net::SocketAddr;

use kube_ipvs_core::model::Protocol::{Tcp, Udp};
use kube_ipvs_core::model::{Family, VirtualAddress};

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{
    NODE_PORT_OF_DAEMON, Server, Silence, Temporary, endpoints_of_both, product, service,
};

/// ClusterIPs of the cluster's DNS.
const DNS: [&str; 2] = ["10.96.9.53", "fd00:96::953"];
/// Addresses of the cache's own.
const LINK_LOCAL: [&str; 1] = ["169.254.20.53"];
const OTHERS: [&str; 2] = ["203.0.113.153", "2001:db8:113::153"];
const NODE_PORT: u16 = 31_953;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_dns_cache_has_the_cluster_ip_while_it_listens", |t| {
            t.agent().configure("serviceCIDRs: [10.96.0.0/12, 'fd00:96::/108']")?;
            for is_untracked in [true, false] {
                cached(t, is_untracked)?;
            }
            Ok(())
        }),
        case("a_dns_cache_at_an_address_of_its_own_leaves_the_cluster_ip", |t| {
            let _device = device(t, &LINK_LOCAL)?;
            let _rules = untracked(t, &LINK_LOCAL)?;
            let _cache = cache(t, &LINK_LOCAL)?;
            dns(t)?;
            t.settled()?;
            for (client, protocol) in product([P1, P2, N1], [Tcp, Udp]) {
                t.expect(client, &at(LINK_LOCAL[0], 53, protocol), Answers::from(N1))?;
                for ip in DNS {
                    t.expect(client, &at(ip, 53, protocol), Answers::from_all([P1, P3]))?;
                }
            }
            Ok(())
        }),
    ]
}

/// The cache comes after the agent, is there before another one, and goes: by its sockets, and by its
/// addresses.
fn cached(t: &mut TestContext<'_>, is_untracked: bool) -> Step {
    dns(t)?;
    t.settled()?;
    expect_endpoints(t)?;
    let open = DNS.map(|ip| t.connect(P2, &at(ip, 53, Tcp)));
    let addresses = device(t, &DNS)?;
    let rules = if is_untracked { Some(untracked(t, &DNS)?) } else { None };
    let sockets = cache(t, &DNS)?;
    patiently(LONG_PATIENCE, || expect_cache(t))?;
    for open in open {
        let asked = open?.ask();
        let is_reset = matches!(asked, Err(Silence::Reset));
        t.check("a connection from before is reset", is_reset, format!("{asked:?}"))?;
    }
    t.settled()?;
    expect_others(t)?;
    expect_told(t)?;
    t.agent().stop()?;
    t.settled()?;
    expect_cache(t)?;
    expect_others(t)?;
    drop(sockets);
    if rules.is_some() {
        // What nobody tracks is not masqueraded, and answers over TCP are of no connection.
        for ip in DNS {
            let both = Answers::from_all([P1, P3]);
            patiently(LONG_PATIENCE, || t.expect(P2, &at(ip, 53, Udp), both.clone()))?;
            for (client, protocol) in [(P2, Tcp), (N1, Tcp), (N1, Udp)] {
                t.expect(client, &at(ip, 53, protocol), Silent)?;
            }
        }
    }
    drop(rules);
    patiently(LONG_PATIENCE, || expect_endpoints(t))?;
    let sockets = cache(t, &DNS)?;
    patiently(LONG_PATIENCE, || expect_cache(t))?;
    drop(addresses);
    patiently(LONG_PATIENCE, || expect_endpoints(t))?;
    // So that the cache can be ended.
    let addresses = device(t, &DNS)?;
    patiently(LONG_PATIENCE, || expect_cache(t))?;
    drop(sockets);
    drop(addresses);
    Ok(())
}

fn expect_cache(t: &TestContext<'_>) -> Step {
    for (ip, client) in product(DNS, [P1, P2, N1, C]) {
        for protocol in [Tcp, Udp] {
            t.expect(client, &at(ip, 53, protocol), Answers::from(N1))?;
        }
    }
    Ok(())
}

fn expect_endpoints(t: &TestContext<'_>) -> Step {
    for (ip, client) in product(DNS, [P2, N1, C]) {
        for protocol in [Tcp, Udp] {
            t.expect(client, &at(ip, 53, protocol), Answers::from_all([P1, P3]))?;
        }
    }
    Ok(())
}

/// Other ports of the ClusterIPs, and other front ends of the same ports.
fn expect_others(t: &TestContext<'_>) -> Step {
    let both = || Answers::from_all([P1, P3]);
    for client in [P2, N1, C] {
        for ip in DNS {
            t.expect(client, &at(ip, 9153, Tcp), both())?;
            t.expect(client, &at(ip, NODE_PORT_OF_DAEMON, Tcp), Refused)?;
        }
        for ip in OTHERS {
            t.expect(client, &at(ip, 53, Tcp), both())?;
            t.expect(client, &at(ip, 53, Udp), both())?;
        }
        for family in Family::BOTH {
            t.expect(client, &at(&N1.ip(family).to_string(), NODE_PORT, Tcp), both())?;
        }
    }
    Ok(())
}

fn expect_told(t: &mut TestContext<'_>) -> Step {
    for ip in DNS {
        let to = at(ip, 53, Udp);
        let explained = t.agent().bare_command(&["explain", &to, "--from", "node"])?.stdout;
        let is_told = explained.contains(": pass")
            && explained.contains("Service dev/dns does not get this ClusterIP");
        t.check(&format!("`explain {to}`"), is_told, explained)?;
        let status = t.agent().bare_command(&["status"])?.stdout;
        t.check(&format!("`status` names {to}"), status.contains(&to), status)?;
        let doctor = t.command("doctor", &[])?.stdout;
        let line = format!("{ip}: left to what listens at 53/tcp, 53/udp");
        t.check("`doctor` names it", doctor.contains(&line), doctor)?;
    }
    Ok(())
}

fn dns(t: &mut TestContext<'_>) -> Step {
    let mut dns = service("dev/dns").cluster_ip(DNS[0]).cluster_ip(DNS[1]);
    for ip in OTHERS {
        dns = dns.load_balancer_ip(ip);
    }
    let dns = dns.udp("dns", 53).port("dns-tcp", 53).node_port(NODE_PORT);
    t.apply(dns.port("metrics", 9153))?;
    for slice in endpoints_of_both("dev/dns") {
        let slice = slice.udp("dns", 8080).port("dns-tcp", 8080);
        t.apply(slice.port("metrics", 9090).ready_on(P1).ready_on(P3))?;
    }
    Ok(())
}

/// The cache's device, with these addresses.
fn device(t: &TestContext<'_>, ips: &[&str]) -> Step<Temporary> {
    let address = |ip: &&str| match ip.contains(':') {
        true => format!("addr add {ip}/128 dev nodelocaldns nodad\n"),
        false => format!("addr add {ip}/32 dev nodelocaldns\n"),
    };
    let lines = ips.iter().map(address).collect::<String>();
    let lines = format!("link add nodelocaldns type dummy\nlink set nodelocaldns up\n{lines}");
    Ok(Temporary::ip(t.host(N1), &lines, "link delete nodelocaldns\n")?)
}

/// The rules that the cache writes, in the place of the iptables table `raw`.
fn untracked(t: &TestContext<'_>, ips: &[&str]) -> Step<Temporary> {
    let chain = |hook: &str, ends: &[(&str, &str)]| {
        let rule = |(ip, (address, port)): (&&str, &(&str, &str))| {
            let family = if ip.contains(':') { "ip6" } else { "ip" };
            format!("{family} {address} {ip} meta l4proto {{ tcp, udp }} th {port} 53 notrack\n")
        };
        let rules = ips.iter().flat_map(|ip| ends.iter().map(move |end| (ip, end))).map(rule);
        let rules = rules.collect::<String>();
        format!("chain {hook} {{\ntype filter hook {hook} priority -300;\n{rules}}}\n")
    };
    let (to, from) = (("daddr", "dport"), ("saddr", "sport"));
    let rules = [chain("prerouting", &[to]), chain("output", &[to, from])].concat();
    Ok(Temporary::table(t.host(N1), "inet nodelocaldns", &rules)?)
}

fn cache(t: &TestContext<'_>, ips: &[&str]) -> Step<Vec<Server>> {
    let start = |(ip, protocol)| {
        let ip: &str = ip;
        let at = SocketAddr::new(ip.parse().expect("an address"), 53);
        Server::start_at(t.host(N1), N1, at, protocol)
    };
    Ok(product(ips.iter().copied(), [Tcp, Udp]).map(start).collect::<io::Result<_>>()?)
}

fn at(ip: &str, port: u16, protocol: kube_ipvs_core::model::Protocol) -> String {
    VirtualAddress { ip: ip.parse().expect("an address"), port, protocol }.to_string()
}
