//! Which of the node's addresses take node ports.

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{C, N1, N2, P1, P3};
use crate::lab::{Temporary, endpoints, endpoints_of_both, service};

/// Addresses in the ranges that the case configures, and one outside of them.
const ADDRESSES: &str = "link add second type dummy\nlink set second up
addr add 192.168.60.7/24 dev second\naddr add fd00:60::7/64 dev second nodad
addr add 192.168.61.7/24 dev second\n";

/// How many addresses of each family the node gets.
const MANY: usize = 10;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("node_ports_on_all_addresses_cost_the_addresses_alone", on_all_addresses),
        case("the_node_may_connect_from_a_node_ports_number", |t| {
            let web = service("dev/own").cluster_ip("10.96.9.8").cluster_ip("fd00:96::908");
            let web = web.port("tcp", 80).node_port(31_980);
            t.apply(web.udp("udp", 80).node_port(31_980))?;
            for slice in endpoints_of_both("dev/own") {
                t.apply(slice.port("tcp", 8080).udp("udp", 8080).ready_on(P1))?;
            }
            t.settled()?;
            for server in ["192.168.50.2:22", "[fd00:50::2]:22"] {
                let (tcp, udp) = (format!("{server}/tcp"), format!("{server}/udp"));
                let mut open = t.connect_from(N1, 31_980, &tcp)?;
                t.expect_answer(&mut open, &tcp)?;
                t.eventually_answers(&t.flow_from(N1, 31_980, &udp)?, N2, &udp)?;
            }
            for to in ["192.168.50.1:31980/tcp", "[fd00:50::1]:31980/udp"] {
                t.expect(C, to, Answers::from(P1))?;
            }
            let _wide =
                Temporary::sysctl(t.host(N1), &["net.ipv4.ip_local_port_range=1024 65535"])?;
            let doctor = t.command("doctor", &[])?.stdout;
            let told = doctor.contains("node ports (1), such as 31980");
            t.check("`doctor` tells of the wide range", told, &doctor)
        }),
        case("node_ports_follow_the_nodes_addresses", |t| {
            t.agent().configure_proxy("nodePortAddresses: [192.168.60.0/24, 'fd00:60::/64']")?;
            let web = service("dev/nodeports").cluster_ip("10.96.9.2").cluster_ip("fd00:96::902");
            let web = web.spec("type", "NodePort").port("tcp", 80).node_port(31_941);
            t.apply(web.udp("udp", 80).node_port(31_941))?;
            let slice = endpoints("dev/nodeports").port("tcp", 8080).udp("udp", 8080);
            t.apply(slice.clone().ready_on(P1))?;
            t.apply(slice.named("nodeports-v6").of_family(Family::V6).ready_on(P3))?;
            t.settled()?;
            let before = t.kernel()?.ipvs;
            t.expect(C, "192.168.50.1:31941/tcp", Refused)?;

            let addresses = Temporary::ip(t.host(N1), ADDRESSES, "link delete second")?;
            t.eventually(C, "192.168.60.7:31941/tcp", Answers::from(P1))?;
            t.eventually(C, "[fd00:60::7]:31941/tcp", Answers::from(P3))?;
            t.settled()?;
            for protocol in ["tcp", "udp"] {
                for client in [C, N1] {
                    t.expect(client, &format!("192.168.60.7:31941/{protocol}"), Answers::from(P1))?;
                    t.expect(client, &format!("[fd00:60::7]:31941/{protocol}"), Answers::from(P3))?;
                }
            }
            for other in ["192.168.61.7:31941", "192.168.50.1:31941", "[fd00:50::1]:31941"] {
                t.expect(N1, &format!("{other}/tcp"), Refused)?;
            }
            t.equal("virtual servers, however many addresses", before, t.kernel()?.ipvs)?;

            drop(addresses);
            t.settled()?;
            let table = t.kernel()?.nft;
            t.check("the addresses are forgotten", !table.contains("192.168.60.7"), table)
        }),
    ]
}

fn on_all_addresses(t: &mut TestContext<'_>) -> Step {
    t.agent().configure_proxy("nodePortAddresses: ['0.0.0.0/0', '::/0']")?;
    let web = service("dev/everywhere").cluster_ip("10.96.9.3").cluster_ip("fd00:96::903");
    let web = web.spec("type", "NodePort").port("tcp", 80).node_port(31_942);
    t.apply(web.udp("udp", 80).node_port(31_942))?;
    for slice in endpoints_of_both("dev/everywhere") {
        t.apply(slice.port("tcp", 8080).udp("udp", 8080).ready_on(P3))?;
    }
    t.settled()?;
    let elements = |nft: &str| nft.matches(" . 31942 : ").count();
    let before = t.kernel()?;
    t.equal("elements of two protocols and families", 4, elements(&before.nft))?;

    let ips = (1..=MANY).flat_map(|n| [format!("192.168.62.{n}"), format!("fd00:62::{n:x}")]);
    let ips: Vec<_> = ips.collect();
    let lines = ips.iter().map(|ip| format!("addr add {ip} dev many\n")).collect::<String>();
    let many = format!("link add many type dummy\nlink set many up\n{lines}");
    let many = Temporary::ip(t.host(N1), &many, "link delete many\n")?;
    for ip in &ips {
        let at = if ip.contains(':') { format!("[{ip}]:31942") } else { format!("{ip}:31942") };
        t.eventually(C, &format!("{at}/tcp"), Answers::from(P3))?;
        t.expect(N1, &format!("{at}/udp"), Answers::from(P3))?;
    }
    let after = t.kernel()?;
    t.equal("virtual servers", &before.ipvs, &after.ipvs)?;
    t.equal("elements, however many addresses", 4, elements(&after.nft))?;

    drop(many);
    patiently(LONG_PATIENCE, || {
        let held = t.kernel()?.nft;
        t.check("the addresses are forgotten", !ips.iter().any(|ip| held.contains(ip)), &held)
    })
}
