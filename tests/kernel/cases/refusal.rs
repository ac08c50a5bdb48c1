//! Front ends without endpoints reject at once, and no process on the node answers for a Service.

use kube_ipvs_core::model::Protocol::{self, Tcp, Udp};

use super::{Case, case};
use crate::expectation::{Answers, Refused, Silent};
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{NODE_PORT_OF_DAEMON, Temporary, endpoints, product, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_service_without_endpoints_rejects", |t| {
            let mut empty = service("dev/empty").cluster_ip("10.96.2.1").cluster_ip("fd00:96::201");
            for protocol in Protocol::ALL {
                empty = empty.port_of(protocol, protocol.name(), 80);
            }
            t.apply(empty)?;
            t.settled()?;
            for (ip, protocol) in product(["10.96.2.1", "[fd00:96::201]"], Protocol::ALL) {
                for client in [P2, N1, C] {
                    t.expect(client, &format!("{ip}:80/{protocol}"), Refused)?;
                }
            }
            // The first endpoint opens it, the last one closes it.
            let slice = || endpoints("dev/empty").port("tcp", 8080).udp("udp", 8080);
            t.apply(slice().ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.2.1:80/tcp", Answers::from(P3))?;
            t.expect(P2, "10.96.2.1:80/udp", Answers::from(P3))?;
            t.apply(slice().not_ready_on(P3))?;
            t.settled()?;
            for client in [P2, N1, C] {
                t.expect(client, "10.96.2.1:80/tcp", Refused)?;
                t.expect(client, "10.96.2.1:80/udp", Refused)?;
            }
            Ok(())
        }),
        case("unknown_ports_are_refused", |t| {
            let web = service("dev/one").cluster_ip("10.96.2.2").cluster_ip("fd00:96::202");
            t.apply(web.port("http", 80))?;
            t.apply(endpoints("dev/one").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            for (ip, protocol) in product(["10.96.2.2", "[fd00:96::202]"], Protocol::ALL) {
                for client in [P2, N1, C] {
                    t.expect(client, &format!("{ip}:81/{protocol}"), Refused)?;
                }
            }
            Ok(())
        }),
        case("front_ends_outside_the_service_ranges_refuse_too", |t| {
            let web = service("dev/outer").cluster_ip("10.96.2.7").cluster_ip("fd00:96::207");
            let web = web.load_balancer_ip("203.0.113.27").load_balancer_ip("2001:db8:113::27");
            let web = web.port("http", 80).node_port(31_927);
            t.apply(web.external_ip("198.51.100.27").external_ip("2001:db8:51::27"))?;
            t.settled()?;
            let own = ["203.0.113.27", "198.51.100.27", "[2001:db8:113::27]", "[2001:db8:51::27]"];
            let node = ["192.168.50.1", "[fd00:50::1]"];
            for (ip, client) in product(own, [P2, N1, C]) {
                t.expect(client, &format!("{ip}:80/tcp"), Refused)?;
                // What is no front end is left alone: packets of the node and its pods go to
                // whatever outside has the address. Those of others would go back to where they
                // came from.
                if client != C {
                    continue;
                }
                for protocol in [Tcp, Udp] {
                    t.expect(client, &format!("{ip}:81/{protocol}"), Refused)?;
                }
                t.expect_ping_refused(client, ip.trim_matches(['[', ']']))?;
            }
            for (ip, client) in product(node, [P2, N1, C]) {
                t.expect(client, &format!("{ip}:31927/tcp"), Refused)?;
                for protocol in [Tcp, Udp] {
                    t.expect(client, &format!("{ip}:31928/{protocol}"), Refused)?;
                }
            }
            Ok(())
        }),
        case("ping_is_refused", |t| {
            let web = service("dev/ping").cluster_ip("10.96.2.3").cluster_ip("fd00:96::203");
            t.apply(web.port("http", 80))?;
            t.apply(endpoints("dev/ping").port("http", 8080).ready_on(P1))?;
            t.settled()?;
            for (ip, client) in product(["10.96.2.3", "fd00:96::203"], [P2, N1, C]) {
                t.expect_ping_refused(client, ip)?;
            }
            Ok(())
        }),
        case("no_process_of_the_node_answers_for_a_service", |t| {
            let port = NODE_PORT_OF_DAEMON;
            // A daemon of the node listens on all addresses, which the ClusterIP becomes one of.
            t.expect(P2, &format!("192.168.50.1:{port}/tcp"), Answers::from(N1))?;
            t.expect(C, &format!("192.168.50.1:{port}/udp"), Answers::from(N1))?;
            let web = service("dev/trap").cluster_ip("10.96.2.4").cluster_ip("fd00:96::204");
            let web = web.load_balancer_ip("203.0.113.24").load_balancer_ip("2001:db8:113::24");
            let web = web.external_ip("198.51.100.24").external_ip("2001:db8:51::24");
            t.apply(web.port("http", 80))?;
            // One Service even has the daemon's port, without endpoints.
            let ssh = service("dev/ssh").cluster_ip("10.96.2.5").cluster_ip("fd00:96::205");
            t.apply(ssh.port("ssh", port))?;
            t.settled()?;
            let addresses = ["10.96.2.4", "[fd00:96::204]", "10.96.2.5", "[fd00:96::205]"];
            for (ip, protocol) in product(addresses, [Tcp, Udp]) {
                for client in [P2, N1, C] {
                    t.expect(client, &format!("{ip}:{port}/{protocol}"), Refused)?;
                }
            }
            // Packets of the node and its pods leave it: these addresses may be somebody's outside.
            let outer =
                ["203.0.113.24", "198.51.100.24", "[2001:db8:113::24]", "[2001:db8:51::24]"];
            for (ip, protocol) in product(outer, [Tcp, Udp]) {
                t.expect(C, &format!("{ip}:{port}/{protocol}"), Refused)?;
            }
            // The node itself keeps its daemon, also at an address that it shares with a Service.
            let shared =
                "addr add 203.0.113.24/32 dev eth0\naddr add 2001:db8:113::24/128 dev eth0";
            let undo = shared.replace("add ", "delete ");
            let shared = Temporary::ip(t.host(N1), shared, &undo)?;
            for ip in ["203.0.113.24", "[2001:db8:113::24]"] {
                t.eventually(C, &format!("{ip}:{port}/tcp"), Answers::from(N1))?;
                t.expect(C, &format!("{ip}:80/tcp"), Refused)?;
            }
            drop(shared);
            t.expect(P2, &format!("192.168.50.1:{port}/tcp"), Answers::from(N1))
        }),
        case("an_address_without_a_service_is_silent", |t| {
            t.apply(service("dev/any").cluster_ip("10.96.2.6").port("http", 80))?;
            t.settled()?;
            for (client, ip) in product([P2, N1, C], ["10.96.2.99", "[fd00:96::299]"]) {
                t.expect(client, &format!("{ip}:80/tcp"), Silent)?;
                t.expect(client, &format!("{ip}:{NODE_PORT_OF_DAEMON}/udp"), Silent)?;
            }
            Ok(())
        }),
    ]
}
