//! Which of the node's addresses take node ports.

use kube_ipvs::model::Family;
use kube_ipvs::model::Protocol::{Tcp, Udp};

use super::{Case, case};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P3};
use crate::lab::{Temporary, endpoints, service};

/// Addresses in the ranges that the case configures, and one outside of them.
const ADDRESSES: &str = "link add second type dummy\nlink set second up
addr add 192.168.60.7/24 dev second\naddr add fd00:60::7/64 dev second nodad
addr add 192.168.61.7/24 dev second\n";

pub(crate) fn cases() -> Vec<Case> {
    vec![case("node_ports_follow_the_nodes_addresses", |t| {
        t.agent().configure_proxy("nodePortAddresses: [192.168.60.0/24, 'fd00:60::/64']")?;
        let web = service("dev/nodeports").cluster_ip("10.96.9.2").cluster_ip("fd00:96::902");
        let web = web.with("type", "NodePort").port(80, "tcp", Tcp).node_port(31_941);
        t.apply(web.port(80, "udp", Udp).node_port(31_941))?;
        let slice = endpoints("dev/nodeports").port("tcp", 8080, Tcp).port("udp", 8080, Udp);
        t.apply(slice.clone().ready(P1))?;
        t.apply(slice.named("nodeports-v6").of_family(Family::V6).ready(P3))?;
        t.settled()?;
        t.eventually_held("no node port yet", |ipvs| !ipvs.contains(":31941"))?;

        let addresses = Temporary::ip(t.host(N1), ADDRESSES, "link delete second")?;
        t.eventually_held("both addresses take node ports", |ipvs| {
            ipvs.contains("-A -t 192.168.60.7:31941") && ipvs.contains("-A -t [fd00:60::7]:31941")
        })?;
        t.settled()?;
        for protocol in ["tcp", "udp"] {
            for client in [C, N1] {
                t.expect(client, &format!("192.168.60.7:31941/{protocol}"), Answers::from(P1))?;
                t.expect(client, &format!("[fd00:60::7]:31941/{protocol}"), Answers::from(P3))?;
            }
        }
        let ipvs = t.kernel()?.ipvs;
        let others = ["192.168.61.7:31941", "192.168.50.1:31941", "[fd00:50::1]:31941"];
        t.check(
            "the node's other addresses do not",
            !others.iter().any(|it| ipvs.contains(it)),
            ipvs,
        )?;

        drop(addresses);
        t.eventually_held("gone with the addresses", |ipvs| !ipvs.contains(":31941"))?;
        let table = t.kernel()?.nft;
        t.check("no rule speaks of them", !table.contains("31941"), table)
    })]
}
