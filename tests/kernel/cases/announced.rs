//! Who says on the nodes' network where service addresses are. It is not this node, unless an
//! announcer does so in its name, or in a question of its own about a neighbour.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Silent};
use crate::lab::Host::{C, N1, P3};
use crate::lab::{
    NODE_PORT_OF_DAEMON, Namespace, Temporary, endpoints, endpoints_of_both, service,
};

/// ClusterIP, external and load balancer IP.
const ADDRESSES: [&str; 6] = [
    "10.96.9.12",
    "198.51.100.112",
    "203.0.113.112",
    "fd00:96::90c",
    "2001:db8:51::112",
    "2001:db8:113::112",
];
/// Counts ARP requests of a sender that is a load balancer or external address.
const SPY: &str = "
chain input {
    type filter hook input priority 0;
    arp operation request arp saddr ip 203.0.113.112 counter
    arp operation request arp saddr ip 198.51.100.112 counter
}
";

/// Counts those of a sender that is a ClusterIP.
const SPY_ON_CLUSTER_IP: &str = "
chain input {
    type filter hook input priority 0;
    arp operation request arp saddr ip 10.96.9.12 counter
}
";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("service_addresses_are_not_announced", nobody_hears),
        case("arp_announce_keeps_a_cluster_ip_from_being_a_sender", |t| {
            served(t)?;
            t.settled()?;
            for (value, is_named) in [(0, true), (1, false), (2, false)] {
                let setting = format!("net.ipv4.conf.all.arp_announce={value}");
                let _setting = Temporary::sysctl(t.host(N1), &[&setting])?;
                let _spy = Temporary::table(t.host(C), "arp spy", SPY_ON_CLUSTER_IP)?;
                // The node has to ask for the client before it can answer.
                t.host(N1).ip("neigh flush dev eth0")?;
                t.expect(C, "10.96.9.12:80/tcp", Answers::from(P3))?;
                let spied = t.host(C).read("nft", &["list", "table", "arp", "spy"])?;
                let has_named = !spied.contains("counter packets 0 ");
                t.check(&setting, has_named == is_named, &spied)?;
            }
            Ok(())
        }),
        case("an_address_that_the_node_has_too_is_found", |t| {
            let web =
                service("dev/virtual").cluster_ip("10.96.9.13").load_balancer_ip("192.168.50.77");
            t.apply(web.port("http", 80))?;
            t.apply(endpoints("dev/virtual").port("http", 8080).ready_on(P3))?;
            t.settled()?;
            let find = || t.host(C).ip("neigh flush dev eth0");
            find()?;
            t.expect(C, "192.168.50.77:80/tcp", Silent)?;
            // As an announcer that makes the node the address's owner for a while.
            let _owned = Temporary::ip(
                t.host(N1),
                "addr add 192.168.50.77/32 dev eth0\n",
                "addr delete 192.168.50.77/32 dev eth0\n",
            )?;
            patiently(LONG_PATIENCE, || {
                find()?;
                t.expect(C, "192.168.50.77:80/tcp", Answers::from(P3))
            })
        }),
        case("an_appliance_owns_an_address", |t| {
            served(t)?;
            t.settled()?;
            // Its packets to the node carry the address that the node takes for a service's.
            let _owner = Temporary::ip(
                t.host(C),
                "addr add 203.0.113.112/32 dev lo
route replace 192.168.50.1/32 dev eth0 src 203.0.113.112\n",
                "route delete 192.168.50.1/32 dev eth0\naddr delete 203.0.113.112/32 dev lo\n",
            )?;
            for protocol in ["tcp", "udp"] {
                let daemon = format!("192.168.50.1:{NODE_PORT_OF_DAEMON}/{protocol}");
                let reply = t.ask(C, &daemon)?;
                let sender: IpAddr = "203.0.113.112".parse().expect("an address");
                t.equal("whom the daemon sees", sender, reply.client.ip())?;
                t.equal("who answers", N1, reply.server)?;
            }
            Ok(())
        }),
    ]
}

fn served(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/announced").cluster_ip("10.96.9.12").cluster_ip("fd00:96::90c");
    let web = web
        .load_balancer_ip("203.0.113.112")
        .load_balancer_ip("2001:db8:113::112")
        .port("http", 80);
    t.apply(web.external_ip("198.51.100.112").external_ip("2001:db8:51::112"))?;
    for slice in endpoints_of_both("dev/announced") {
        t.apply(slice.port("http", 8080).ready_on(P3))?;
    }
    Ok(())
}

fn nobody_hears(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    t.settled()?;
    let lines = |verb: &str| -> String {
        let line = |ip: &&str| format!("route {verb} {ip}/{} dev eth0\n", length(ip));
        ADDRESSES.iter().map(line).collect()
    };
    let _on_link = Temporary::ip(t.host(C), &lines("add"), &lines("delete"))?;
    for ip in ADDRESSES {
        t.expect(C, &front_end(ip), Silent)?;
        let neighbour = t.host(C).read("ip", &["neigh", "show", ip])?;
        t.check(&format!("no neighbour {ip}"), !neighbour.contains("lladdr"), &neighbour)?;
    }
    // An announcer tells the node's hardware address.
    let node = ethernet_address(t.host(N1))?;
    let told = ADDRESSES.map(|ip| format!("neigh replace {ip} lladdr {node} dev eth0\n")).concat();
    let untold = ADDRESSES.map(|ip| format!("neigh delete {ip} dev eth0\n")).concat();
    let _announced = Temporary::ip(t.host(C), &told, &untold)?;
    let _spy = Temporary::table(t.host(C), "arp spy", SPY)?;
    for ip in ADDRESSES {
        // The node has to ask for the client before it can answer.
        t.host(N1).ip("neigh flush dev eth0")?;
        t.expect(C, &front_end(ip), Answers::from(P3))?;
    }
    let spied = t.host(C).read("nft", &["list", "table", "arp", "spy"])?;
    let silent = spied.matches("counter packets 0 ").count();
    t.equal("senders that no ARP request names", 2, silent)
}

fn front_end(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:80/tcp") } else { format!("{ip}:80/tcp") }
}

fn length(ip: &str) -> u8 {
    if ip.contains(':') { 128 } else { 32 }
}

/// The hardware address by which a host is known on the nodes' network.
fn ethernet_address(host: &Arc<Namespace>) -> Step<String> {
    let link = host.read("ip", &["-o", "link", "show", "dev", "eth0"])?;
    let address = link.split_once("link/ether ").and_then(|(_, rest)| rest.split(' ').next());
    Ok(address.unwrap_or_default().to_owned())
}
