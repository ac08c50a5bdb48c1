//! The lab without an agent: what other cases take for granted.

use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};

use super::{Case, case};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{POD_PORTS, product};

/// A router that refuses instead of staying silent.
const REFUSALS: &str = "
add table inet lab
add chain inet lab forward { type filter hook forward priority 0; }
add rule inet lab forward ip daddr 192.0.2.1 icmp type echo-request reject with icmp host-unreachable
add rule inet lab forward ip6 daddr 2001:db8::1 icmpv6 type echo-request reject with icmpv6 addr-unreachable
add rule inet lab forward ip daddr 192.0.2.1 reject with icmpx port-unreachable
add rule inet lab forward ip6 daddr 2001:db8::1 reject with icmpx port-unreachable
";

pub(crate) fn cases() -> Vec<Case> {
    vec![case("the_lab_itself", |t| {
        for (family, protocol) in product(Family::BOTH, Protocol::ALL) {
            let at = |ip, port| VirtualAddress { ip, port, protocol }.to_string();
            // Which hosts reach each other, and that no source is translated.
            for (client, server) in [(P2, P1), (P2, P3), (P3, P1), (N1, P1), (N1, P4)] {
                let answers = Answers::from(server).on_port(POD_PORTS[0]).to(client);
                t.expect(client, &at(server.ip(family), POD_PORTS[0]), answers)?;
            }
            // A port without a server refuses; an unused address is silent.
            t.expect(P2, &at(P3.ip(family), 1), Refused)?;
            let nobody = match family {
                Family::V4 => "192.0.2.1",
                Family::V6 => "2001:db8::1",
            };
            t.host(C).ip(&format!("route replace blackhole {nobody}"))?;
            t.expect(P2, &at(nobody.parse().expect("an address"), 80), Silent)?;
        }
        // Refusals by ICMP are told from silence too, also those that SCTP keeps to itself.
        let node = t.host(N1);
        node.nft(REFUSALS)?;
        for (ip, protocol) in product(["192.0.2.1", "[2001:db8::1]"], Protocol::ALL) {
            t.expect(P2, &format!("{ip}:80/{protocol}"), Refused)?;
        }
        for ip in ["192.0.2.1", "2001:db8::1"] {
            t.expect_ping_refused(P2, ip)?;
        }
        node.nft("delete table inet lab")?;
        Ok(())
    })]
}
