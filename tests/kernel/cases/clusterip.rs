//! ClusterIP Services: which endpoints answer, on which port, and which source they see.

use kube_ipvs_core::model::Family;
use kube_ipvs_core::model::Protocol::{self};

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{endpoints, product, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("every_client_family_and_protocol", every_client_family_and_protocol),
        case("endpoints_take_turns", |t| {
            t.apply(service("dev/turns").cluster_ip("10.96.1.2").port("http", 80))?;
            let slice = endpoints("dev/turns").port("http", 8080);
            t.apply(slice.ready_on(P1).ready_on(P3).ready_on(P4))?;
            t.settled()?;
            t.expect(P2, "10.96.1.2:80/tcp", Answers::from_all([P1, P3, P4]))
        }),
        case("several_ports", |t| {
            let dns = service("kube-system/dns").cluster_ip("10.96.1.3");
            let dns = dns.udp("dns", 53).port("dns-tcp", 53).port("metrics", 9153);
            t.apply(dns)?;
            let slice = endpoints("kube-system/dns").udp("dns", 8080);
            let slice = slice.port("dns-tcp", 8080).port("metrics", 9090);
            t.apply(slice.ready_on(P1).ready_on(P4))?;
            t.settled()?;
            for client in [P2, N1, C] {
                let both = Answers::from_all([P1, P4]);
                t.expect(client, "10.96.1.3:53/udp", both.clone().on_port(8080))?;
                t.expect(client, "10.96.1.3:53/tcp", both.clone().on_port(8080))?;
                t.expect(client, "10.96.1.3:9153/tcp", both.on_port(9090))?;
            }
            t.expect(P2, "10.96.1.3:9153/udp", Refused)
        }),
        case("a_named_port_has_another_number_in_another_slice", |t| {
            let web = service("dev/named").cluster_ip("10.96.1.4");
            t.apply(web.port("http", 80).target("web-port"))?;
            t.apply(endpoints("dev/named").port("http", 8080).ready_on(P1))?;
            let newer = endpoints("dev/named").named("named-2").port("http", 9090);
            t.apply(newer.ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.1.4:80/tcp", Answers::from_all([P1, P3]))?;
            t.delete(endpoints("dev/named"))?;
            t.settled()?;
            t.expect(P2, "10.96.1.4:80/tcp", Answers::from(P3).on_port(9090))
        }),
        case("endpoints_lie_in_several_slices", |t| {
            t.apply(service("dev/slices").cluster_ip("10.96.1.5").port("http", 80))?;
            let slice = |name| endpoints("dev/slices").named(name).port("http", 8080);
            t.apply(slice("slices-a").ready_on(P1))?;
            t.apply(slice("slices-b").ready_on(P3).ready_on(P4))?;
            // While an endpoint moves from slice to slice it stands in both.
            t.apply(slice("slices-c").ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.1.5:80/tcp", Answers::from_all([P1, P3, P4]))?;
            t.apply(slice("slices-b").ready_on(P4))?;
            t.settled()?;
            t.expect(P2, "10.96.1.5:80/tcp", Answers::from_all([P1, P3, P4]))?;
            t.delete(slice("slices-c"))?;
            t.settled()?;
            t.expect(P2, "10.96.1.5:80/tcp", Answers::from_all([P1, P4]))
        }),
        case("conditions_decide_who_serves", |t| {
            t.apply(service("dev/ready").cluster_ip("10.96.1.6").port("http", 80))?;
            let slice = || endpoints("dev/ready").port("http", 8080);
            t.apply(slice().ready_on(P1).not_ready_on(P3).without_conditions_on(P4))?;
            t.settled()?;
            t.expect(P2, "10.96.1.6:80/tcp", Answers::from_all([P1, P4]))?;
            // Terminating endpoints serve only if no other endpoint does.
            t.apply(slice().terminating_on(P1).ready_on(P3).not_ready_on(P4))?;
            t.settled()?;
            t.expect(P2, "10.96.1.6:80/tcp", Answers::from(P3))?;
            t.apply(slice().terminating_on(P1).not_ready_on(P3).not_ready_on(P4))?;
            t.settled()?;
            t.expect(P2, "10.96.1.6:80/tcp", Answers::from(P1))
        }),
        case("one_name_in_two_namespaces", |t| {
            for (key, ip, pod) in [("dev/ent", "10.96.1.7", P1), ("prod/ent", "10.96.1.8", P4)] {
                t.apply(service(key).cluster_ip(ip).port("http", 80))?;
                t.apply(endpoints(key).port("http", 8080).ready_on(pod))?;
            }
            t.settled()?;
            t.expect(P2, "10.96.1.7:80/tcp", Answers::from(P1))?;
            t.expect(P2, "10.96.1.8:80/tcp", Answers::from(P4))?;
            t.delete(service("dev/ent"))?;
            t.settled()?;
            t.expect(P2, "10.96.1.8:80/tcp", Answers::from(P4))
        }),
        case("one_port_with_tcp_and_udp", |t| {
            let both = service("dev/both").cluster_ip("10.96.1.9");
            t.apply(both.port("tcp", 80).udp("udp", 80))?;
            t.apply(endpoints("dev/both").port("tcp", 8080).ready_on(P1))?;
            let udp = endpoints("dev/both").named("both-2").udp("udp", 9090);
            t.apply(udp.ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.1.9:80/tcp", Answers::from(P1).on_port(8080))?;
            t.expect(P2, "10.96.1.9:80/udp", Answers::from(P3).on_port(9090))?;
            t.expect(P2, "10.96.1.9:80/sctp", Refused)
        }),
        case("a_pod_reaches_itself", |t| {
            let own = service("dev/own").cluster_ip("10.96.1.10").cluster_ip("fd00:96::10a");
            t.apply(own.port("tcp", 80).udp("udp", 80).sctp("sctp", 80))?;
            for family in Family::BOTH {
                let name = format!("own-{}", family.to_string().to_lowercase());
                let mut slice = endpoints("dev/own").named(&name).of_family(family);
                for protocol in Protocol::ALL {
                    slice = slice.port_of(protocol, protocol.name(), 8080);
                }
                t.apply(slice.ready_on(P1))?;
            }
            t.settled()?;
            for (ip, protocol) in product(["10.96.1.10", "[fd00:96::10a]"], Protocol::ALL) {
                // It sees the node: an answer to itself would never leave it.
                t.expect(P1, &format!("{ip}:80/{protocol}"), Answers::from(P1).to(N1))?;
            }
            Ok(())
        }),
        case("headless_and_external_names_are_left_alone", |t| {
            t.apply(service("dev/headless").cluster_ip("None").port("http", 80))?;
            t.apply(endpoints("dev/headless").port("http", 8080).ready_on(P1))?;
            t.apply(service("dev/elsewhere").external_name("db.example.org"))?;
            t.apply(service("dev/beside").cluster_ip("10.96.1.11").port("http", 80))?;
            t.apply(endpoints("dev/beside").port("http", 8080).ready_on(P3))?;
            t.settled()?;
            let expected =
                "-A -t 10.96.1.11:80 -s rr\n-a -t 10.96.1.11:80 -r 10.244.2.13:8080 -m -w 1\n";
            t.eventually_held("nothing but its virtual server", |ipvs| ipvs == expected)?;
            t.expect(P2, "10.96.1.11:80/tcp", Answers::from(P3))
        }),
    ]
}

/// Pods, the node and an external client; IPv4 and IPv6; TCP, UDP and SCTP.
fn every_client_family_and_protocol(t: &mut TestContext<'_>) -> Step {
    let mut web = service("dev/web").cluster_ip("10.96.1.1").cluster_ip("fd00:96::101");
    for protocol in Protocol::ALL {
        web = web.port_of(protocol, protocol.name(), 80);
    }
    t.apply(web)?;
    for family in Family::BOTH {
        let name = format!("web-{}", family.to_string().to_lowercase());
        let mut slice = endpoints("dev/web").named(&name).of_family(family);
        for protocol in Protocol::ALL {
            slice = slice.port_of(protocol, protocol.name(), 8080);
        }
        t.apply(slice.ready_on(P1).ready_on(P3))?;
    }
    t.settled()?;
    for (ip, protocol) in product(["10.96.1.1", "[fd00:96::101]"], Protocol::ALL) {
        let address = format!("{ip}:80/{protocol}");
        // A pod and the node are seen as themselves. An external client is seen as the node, or answers
        // would take another way back.
        for (client, seen) in [(P2, P2), (N1, N1), (C, N1)] as [(Host, Host); 3] {
            t.expect(client, &address, Answers::from_all([P1, P3]).to(seen))?;
        }
    }
    Ok(())
}
