//! Clients whose packets are too large for the way to the endpoint are told so.

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::lab::Host::{C, N1, P2, P3};
use crate::lab::{Temporary, endpoints, product, service};

/// ClusterIP, external and load balancer IP, and node port.
const FRONT_ENDS: [&str; 8] = [
    "10.96.9.7:80",
    "198.51.100.97:80",
    "203.0.113.97:80",
    "192.168.50.1:31944",
    "[fd00:96::907]:80",
    "[2001:db8:51::97]:80",
    "[2001:db8:113::97]:80",
    "[fd00:50::1]:31944",
];
/// The ways to the other node's pods, as an overlay network would have them.
const NARROW: &str = "route replace 10.244.2.0/24 via 192.168.50.2 mtu lock 1300
route replace fd00:244:2::/64 via fd00:50::2 mtu lock 1300\n";
const WIDE: &str = "route replace 10.244.2.0/24 via 192.168.50.2
route replace fd00:244:2::/64 via fd00:50::2\n";
/// What clients have learnt; over IPv6 it is of addresses that no other case has.
const FORGET: &str = "route flush cache\n";
/// More than a few packets.
const REQUEST_BYTES: usize = 20_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![case("a_narrow_way_to_the_endpoint", |t| {
        let web = service("dev/narrow").cluster_ip("10.96.9.7").cluster_ip("fd00:96::907");
        let web = web.load_balancer_ip("203.0.113.97").load_balancer_ip("2001:db8:113::97");
        let web = web.port("tcp", 80).node_port(31_944);
        t.apply(web.external_ip("198.51.100.97").external_ip("2001:db8:51::97"))?;
        let slice = endpoints("dev/narrow").port("tcp", 8080);
        t.apply(slice.clone().ready_on(P3))?;
        t.apply(slice.named("narrow-v6").of_family(Family::V6).ready_on(P3))?;
        t.settled()?;
        let _way = Temporary::ip(t.host(N1), NARROW, WIDE)?;
        let _learnt = [C, P2, N1].map(|client| Temporary::ip(t.host(client), "", FORGET));
        for (front_end, client) in product(FRONT_ENDS, [C, P2, N1]) {
            let mut connection = t.connect(client, &format!("{front_end}/tcp"))?;
            let answer = connection.ask_at_length(REQUEST_BYTES);
            // The one that does not learn it: docs/datapath.md says so.
            let does_learn = (client, front_end) != (N1, "192.168.50.1:31944");
            t.check(
                &format!("{client} sends a lot to {front_end}, which is to arrive: {does_learn}"),
                answer.is_ok() == does_learn,
                format!("{answer:?}"),
            )?;
        }
        Ok(())
    })]
}
