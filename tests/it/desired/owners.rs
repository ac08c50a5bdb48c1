//! Who has an address and port that several want: Services among each other, and the node itself.

use kube_ipvs_core::model::{Event, LocalDetector, RefusalReason, Settings};

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView};
use crate::common::objects::{
    NodeBuilder, ServiceBuilder, SliceBuilder, addresses, ip, listening, node, service,
    service_cidrs, slice, without_service,
};

/// A Service, and where its endpoint is.
fn web(name: &str, created: i64) -> ServiceBuilder {
    let number = name.bytes().next().unwrap_or_default();
    service(&format!("default/{name}")).cluster_ip(&format!("10.96.0.{number}")).created(created)
}

fn endpoint_of(name: &str) -> SliceBuilder {
    let number = name.bytes().next().unwrap_or_default();
    let endpoint = format!("10.244.2.{number}");
    slice(&format!("default/{name}-a")).port("", 8080).ready(&endpoint, "n2")
}

/// What clients get who are led to the endpoint of a Service.
fn led_to(name: &str) -> String {
    let number = name.bytes().next().unwrap_or_default();
    format!("~10.244.2.{number}:8080")
}

/// A view with one Service, which asks for an address in the status and in its specification, and
/// an endpoint of it.
fn view_with(asks: ServiceBuilder) -> NodeView {
    let mut view = NodeView::new();
    view.apply(asks).apply(endpoint_of("a"));
    view
}

#[test]
fn priority_is_by_right_then_age_then_name() {
    let wants = |name: &str, created| web(name, created).port("", 31000);
    let shared = "203.0.113.1";
    let own = "192.0.2.1";
    // The one that wins, and the other.
    let rivals = [
        // Granted before written.
        (wants("a", 9).load_balancer_ip(shared), wants("b", 1).external_ip(shared), shared),
        (wants("a", 9).load_balancer_ip(own), wants("b", 1).external_ip(own), own),
        (web("a", 9).port("", 80).node_port(31000), wants("b", 1).external_ip(own), own),
        // The older of two that were granted, or of two that were written.
        (wants("a", 1).load_balancer_ip(shared), wants("b", 9).load_balancer_ip(shared), shared),
        (wants("a", 1).external_ip(shared), wants("b", 9).external_ip(shared), shared),
        (web("a", 1).port("", 80).node_port(31000), wants("b", 9).load_balancer_ip(own), own),
        (wants("a", 1).load_balancer_ip(own), web("b", 9).port("", 80).node_port(31000), own),
        // Of two that are as old, the first by name.
        (wants("a", 5).external_ip(shared), wants("b", 5).external_ip(shared), shared),
    ];
    for (winner, loser, address) in rivals {
        let at = format!("{address}:31000");
        for is_first in [true, false] {
            let mut view = NodeView::new();
            let (one, other) = if is_first { (&winner, &loser) } else { (&loser, &winner) };
            view.apply(one.clone()).apply(other.clone());
            view.apply(endpoint_of("a")).apply(endpoint_of("b"));
            view.expect(&[(&at, EXTERNAL_CLIENT, &led_to("a"))]);
            assert!(view.desired_service("default/a").refusals.is_empty());
            let refusals = view.desired_service("default/b").refusals;
            let reasons: Vec<_> = refusals.iter().map(|it| it.reason).collect();
            assert!(matches!(reasons[..], [RefusalReason::Taken(_)]), "{reasons:?}");
            view.apply(without_service("default/a"));
            view.expect(&[(&at, EXTERNAL_CLIENT, &led_to("b"))]);
            view.apply(winner.clone());
            view.expect(&[(&at, EXTERNAL_CLIENT, &led_to("a"))]);
        }
    }
}

/// What becomes of a front end of `default/a` at this node's address.
fn action(view: &NodeView, at: &str) -> Result<String, Option<RefusalReason>> {
    match view.answer(at, EXTERNAL_CLIENT) {
        answer if answer == "pass" => Err(view
            .desired_service("default/a")
            .refusal(&at.parse().expect("address"))
            .map(|it| it.reason)),
        answer => Ok(answer),
    }
}

#[test]
fn a_protected_port_is_no_node_port() {
    let mut view = NodeView::new();
    view.apply(web("a", 1).port("ssh", 80).node_port(22).port("http", 81).node_port(30080));
    view.apply(slice("default/a-1").port("ssh", 8080).port("http", 8080).ready("10.244.2.1", "n2"));
    assert_eq!(action(&view, "192.0.2.1:22"), Err(None));
    let refusals = view.desired_service("default/a").refusals;
    let [refusal] = &refusals[..] else { panic!("{refusals:?}") };
    assert_eq!(refusal.reason, RefusalReason::Protected);
    assert_eq!(action(&view, "192.0.2.1:30080"), Ok("~10.244.2.1:8080".to_owned()));
}

#[test]
fn an_address_of_the_node_is_served_at_ports_that_it_does_not_need() {
    for written in [true, false] {
        let ports = [443, 22, 10250, 9100].map(|port| ("", port));
        for (name, port) in ports {
            let asks = web("a", 1).port(name, port);
            let asks = match written {
                true => asks.external_ip("192.0.2.1"),
                false => asks.load_balancer_ip("192.0.2.1"),
            };
            let mut view = NodeView::new();
            view.apply(listening(&["0.0.0.0:9100", "127.0.0.1:443"]));
            view.apply(asks).apply(endpoint_of("a"));
            let expected = match port {
                443 => Ok(led_to("a")),
                9100 => Err(Some(RefusalReason::Listened)),
                _ => Err(Some(RefusalReason::Protected)),
            };
            assert_eq!(action(&view, &format!("192.0.2.1:{port}")), expected, "{port}");
            // Ports that it does not ask for are the node's.
            assert_eq!(action(&view, "192.0.2.1:8443"), Err(None));
        }
    }
}

#[test]
fn a_node_port_is_not_lost_with_an_external_ip_that_is_refused() {
    for asks in [web("a", 1).external_ip("192.0.2.1"), web("a", 1).load_balancer_ip("192.0.2.1")] {
        let mut view = NodeView::new();
        view.apply(listening(&["0.0.0.0:31000"]));
        view.apply(asks.port("", 31000).node_port(31000)).apply(endpoint_of("a"));
        let refusals = view.desired_service("default/a").refusals;
        let reasons: Vec<_> = refusals.iter().map(|it| it.reason).collect();
        assert_eq!(reasons, [RefusalReason::Listened]);
        view.expect(&[("192.0.2.1:31000", EXTERNAL_CLIENT, &led_to("a"))]);
    }
}

#[test]
fn which_ports_are_protected_is_configured() {
    let settings = Settings {
        protected_node_ports: vec!["80-90/tcp".parse().expect("ports")],
        ..Settings::for_node("n1")
    };
    for (port, is_protected) in [(22, false), (80, true), (90, true), (91, false)] {
        let mut view = NodeView::with(&settings);
        view.apply(web("a", 1).port("", port).external_ip("192.0.2.1")).apply(endpoint_of("a"));
        let expected = match is_protected {
            true => Err(Some(RefusalReason::Protected)),
            false => Ok(led_to("a")),
        };
        assert_eq!(action(&view, &format!("192.0.2.1:{port}")), expected);
    }
}

#[test]
fn the_first_owner_keeps_a_port_of_the_node() {
    let asks = || web("a", 1).port("", 80).external_ip("192.0.2.1");
    let at = "192.0.2.1:80";
    let served = Ok(led_to("a"));
    let mut view = view_with(asks());
    assert_eq!(action(&view, at), served);
    // A process that comes later takes nothing away, whatever else changes.
    view.apply(listening(&[at, "0.0.0.0:9000/udp"])).apply(asks().created(5));
    view.apply(node("n1").internal_ip("192.0.2.1").zone("z2"));
    assert_eq!(action(&view, at), served);
    // To ask again is to come later.
    view.apply(web("a", 1).port("", 80)).apply(asks());
    assert_eq!(action(&view, at), Err(Some(RefusalReason::Listened)));
    let expected = "the address is this node's own, and no Service has this port of it; Service \
                    default/a does not get this ExternalIP: the address is this node's own, and a \
                    process or tunnel of the node listened there first";
    assert_eq!(view.explain(at, EXTERNAL_CLIENT).reason, expected);
    // Somewhere else, or over another protocol, is no hindrance.
    view.apply(listening(&["192.0.2.7:80", "0.0.0.0:80/udp", "[::]:80"]));
    assert_eq!(action(&view, at), served);
}

#[test]
fn a_listening_process_keeps_a_cluster_ip_on_a_device() {
    let dns = || web("a", 1).port("", 53).port("metrics", 9153).load_balancer_ip("203.0.113.1");
    let [at, other, image] = ["10.96.0.97:53", "10.96.0.97:9153", "242.96.0.97:53"];
    let mut view = NodeView::new();
    view.apply(dns()).apply(endpoint_of("a").port("metrics", 8080));
    let served = "10.244.2.97:8080";
    let pools = |view: &NodeView| -> Vec<_> {
        let program = view.desired_service("default/a");
        program.pools.iter().map(|pool| pool.server.address.to_string()).collect()
    };
    let at_cluster_ip = vec![format!("{at}/tcp"), format!("{other}/tcp")];
    // Neither an address without a socket, nor a socket without an address, nor one at all addresses.
    for (ips, sockets) in
        [(&["10.96.0.97"][..], &[][..]), (&[], &[at]), (&["10.96.0.97"], &["0.0.0.0:53"])]
    {
        view.apply(addresses(ips)).apply(listening(sockets));
        view.expect(&[(at, EXTERNAL_CLIENT, served), (other, EXTERNAL_CLIENT, served)]);
        assert_eq!(pools(&view), at_cluster_ip);
    }
    for ends_by_socket in [true, false] {
        // In either order.
        let mut both = [addresses(&["10.96.0.97"]), listening(&[at])];
        if ends_by_socket {
            both.reverse();
        }
        for event in both {
            view.apply(event);
        }
        view.expect(&[
            (at, EXTERNAL_CLIENT, "pass"),
            (other, EXTERNAL_CLIENT, served),
            ("203.0.113.1:53", EXTERNAL_CLIENT, &led_to("a")),
        ]);
        assert_eq!(pools(&view), [format!("{other}/tcp"), format!("{image}/tcp")]);
        let program = view.desired_service("default/a");
        let reasons: Vec<_> = program.refusals.iter().map(|it| it.reason).collect();
        assert_eq!(reasons, [RefusalReason::LocalSocket]);
        // It stays the Service's: no other Service gets it meanwhile.
        view.apply(web("b", 0).port("", 53).external_ip("10.96.0.97"));
        view.expect(&[(at, EXTERNAL_CLIENT, "pass")]);
        // Nor its other ports.
        let asks = web("b", 0).port("", 443);
        for asks in [asks.clone().external_ip("10.96.0.97"), asks.load_balancer_ip("10.96.0.97")] {
            view.apply(asks);
            let program = view.desired_service("default/b");
            let refusal = program.refusal(&"10.96.0.97:443".parse().expect("address"));
            assert_eq!(refusal.map(|it| it.reason), Some(RefusalReason::ServiceRange));
        }
        view.apply(if ends_by_socket { listening(&[]) } else { addresses(&[]) });
        view.expect(&[(at, EXTERNAL_CLIENT, served)]);
        assert_eq!(pools(&view), at_cluster_ip);
        view.apply(without_service("default/b"));
    }
}

#[test]
fn an_external_ip_that_becomes_the_node_s_is_claimed_again() {
    // The port, and whether a Service keeps it that has written the address, or was granted it.
    for (port, written, granted) in [(8000, true, true), (22, false, false), (81, false, true)] {
        let at = format!("192.0.2.50:{port}");
        for (asks, keeps) in [
            (web("a", 1).external_ip("192.0.2.50"), written),
            (web("a", 1).load_balancer_ip("192.0.2.50"), granted),
        ] {
            // By the Node object, or by an interface alone.
            for own in [node("n1").internal_ip("192.0.2.50").into(), addresses(&["192.0.2.50"])] {
                let mut view = view_with(asks.clone().port("", port));
                view.apply(listening(&["0.0.0.0:81"]));
                view.expect(&[(&at, EXTERNAL_CLIENT, &led_to("a"))]);
                view.apply(own);
                assert_eq!(action(&view, &at).is_ok(), keeps, "{at}");
                view.apply(node("n1").internal_ip("192.0.2.1")).apply(addresses(&[]));
                view.expect(&[(&at, EXTERNAL_CLIENT, &led_to("a"))]);
            }
        }
    }
}

#[test]
fn the_api_servers_port_is_protected_and_its_others_are_free() {
    let api_server = |address: &str| Event::ApiServers(vec![address.parse().expect("address")]);
    let slice = || slice("default/kubernetes").of("default/kubernetes").port("https", 6443);
    for told in [slice().ready("192.0.2.2", "").into(), api_server("192.0.2.2:6443")] {
        for (port, expected) in
            [(6443, Err(Some(RefusalReason::ApiServer))), (443, Ok(led_to("a")))]
        {
            let asks = web("a", 1).port("", port).load_balancer_ip("192.0.2.2");
            let mut view = view_with(asks);
            view.apply(told.clone());
            assert_eq!(action(&view, &format!("192.0.2.2:{port}")), expected);
        }
    }
}

#[test]
fn a_missing_or_empty_node_object_changes_nothing() {
    let mut view = NodeView::new();
    view.apply(addresses(&["192.0.2.1", "198.51.100.7"]));
    view.apply(web("a", 1).port("", 80).node_port(31000).external_ip("192.0.2.1"));
    view.apply(web("b", 1).port("", 22).external_ip("192.0.2.1").external_ip("198.51.100.7"));
    view.apply(endpoint_of("a")).apply(endpoint_of("b"));
    let before = (view.desired_service("default/a"), view.desired().node().clone());
    assert_eq!(before.0.routes[0].source, Some(ip("192.0.2.1")));
    for event in [Event::Node(None), node("n1").zone("z1").into(), Event::Node(None)] {
        view.apply(event);
        assert_eq!(
            (&view.desired_service("default/a"), view.desired().node()),
            (&before.0, &before.1)
        );
        view.expect(&[
            ("192.0.2.1:31000", EXTERNAL_CLIENT, &led_to("a")),
            ("192.0.2.1:80", EXTERNAL_CLIENT, &led_to("a")),
            ("192.0.2.1:22", EXTERNAL_CLIENT, "pass"),
            ("198.51.100.7:22", EXTERNAL_CLIENT, "pass"),
        ]);
    }
}

/// A Node object that is made again gets its addresses and ranges one after the other.
#[test]
fn a_node_object_of_one_family_keeps_the_other() {
    let mut view = NodeView::empty(&Settings {
        local_detector: LocalDetector::NodeCidr,
        ..Settings::for_node("n1")
    });
    let v4 = |node: NodeBuilder| node.internal_ip("192.0.2.1");
    let v6 = |node: NodeBuilder| node.internal_ip("2001:db8::1");
    let whole = || v6(v4(node("n1"))).pod_cidr("10.244.1.0/24").pod_cidr("fd00:10:244:1::/64");
    view.apply(whole());
    view.apply(web("a", 1).cluster_ip("fd00:96::1").port("", 80).node_port(31000));
    let before = (view.desired_service("default/a"), view.desired().node().clone());
    assert_eq!(before.1.node_port_ips.len(), 2);
    assert_eq!(before.1.pods.len(), 2);
    for event in [
        v4(node("n1")),
        v6(node("n1")),
        v4(node("n1")).pod_cidr("fd00:10:244:1::/64"),
        v6(node("n1")).pod_cidr("10.244.1.0/24"),
        whole(),
    ] {
        view.apply(event);
        assert_eq!(
            (&view.desired_service("default/a"), view.desired().node()),
            (&before.0, &before.1)
        );
    }
    // What is told of a family counts for it.
    view.apply(node("n1").internal_ip("192.0.2.9"));
    assert_eq!(view.desired().node().node_port_ips, [ip("192.0.2.9"), ip("2001:db8::1")]);
}

#[test]
fn an_agent_that_has_seen_no_node_object_knows_the_node_by_its_interfaces() {
    let mut view = NodeView::empty(&Settings::for_node("n1"));
    view.apply(addresses(&["192.0.2.1", "198.51.100.7"]));
    view.apply(Event::SourceIps(vec![ip("198.51.100.7")])).apply(Event::Node(None));
    view.apply(web("a", 1).port("", 22).node_port(31000).external_ip("192.0.2.1"));
    view.apply(endpoint_of("a"));
    view.expect(&[
        ("192.0.2.1:22", EXTERNAL_CLIENT, "pass"),
        ("198.51.100.7:31000", EXTERNAL_CLIENT, &led_to("a")),
    ]);
}

#[test]
fn own_packets_carry_an_address_that_the_node_has() {
    let source = |view: &NodeView| view.desired_service("default/a").routes[0].source;
    let mut view = view_with(web("a", 1).port("", 80));
    view.apply(addresses(&["192.0.2.1", "198.51.100.7"]));
    view.apply(Event::SourceIps(vec![ip("198.51.100.7")]));
    assert_eq!(source(&view), Some(ip("192.0.2.1")));
    // The address has moved, and the Node object says so later.
    view.apply(addresses(&["10.244.1.1", "192.0.2.9", "198.51.100.7"]));
    assert_eq!(source(&view), Some(ip("198.51.100.7")));
    view.apply(Event::SourceIps(vec![]));
    assert_eq!(source(&view), Some(ip("192.0.2.9")), "a pod's gateway is no address for that");
    view.apply(node("n1").internal_ip("198.51.100.7"));
    assert_eq!(source(&view), Some(ip("198.51.100.7")));
}

#[test]
fn a_refused_service_does_not_block_a_port_later() {
    let asks = |name, created| web(name, created).port("", 8080).external_ip("192.0.2.1");
    let at = "192.0.2.1:8080";
    let mut view = NodeView::new();
    view.apply(asks("b", 1)).apply(asks("a", 2)).apply(endpoint_of("a")).apply(endpoint_of("b"));
    view.expect(&[(at, EXTERNAL_CLIENT, &led_to("b"))]);
    // The one that has it goes after a process has come to listen.
    view.apply(listening(&["0.0.0.0:8080"])).apply(without_service("default/b"));
    assert_eq!(action(&view, at), Err(Some(RefusalReason::Listened)));
    view.apply(listening(&[]));
    assert_eq!(action(&view, at), Ok(led_to("a")));
    view.apply(without_service("default/a"));
    let address = at.parse().expect("address");
    assert_eq!(view.desired().owner(&address), None);
    view.apply(asks("a", 9));
    assert_eq!(action(&view, at), Ok(led_to("a")));
}

#[test]
fn refused_services_do_not_claim_a_port() {
    let name = |index: u8| char::from(b'a' + index).to_string();
    let asks = |index: u8| web(&name(index), index.into()).port("", 8080).external_ip("192.0.2.1");
    let address = "192.0.2.1:8080".parse().expect("address");
    let mut view = NodeView::new();
    for index in 0..20 {
        view.apply(asks(index));
    }
    view.apply(listening(&["0.0.0.0:8080"])).apply(without_service("default/a"));
    assert_eq!(view.desired().owner(&address), None);
    for index in 1..20 {
        let program = view.desired_service(&format!("default/{}", name(index)));
        let reason = program.refusal(&address).map(|refusal| refusal.reason);
        assert_eq!(reason, Some(RefusalReason::Listened), "{index}");
    }
}

#[test]
fn a_cluster_ip_that_is_the_node_s_own_address_leaves_it_to_the_node() {
    let mut view = NodeView::new();
    view.apply(service_cidrs(&["192.0.2.0/24"])).apply(addresses(&["192.0.2.1"]));
    let asks = service("default/a").cluster_ip("192.0.2.1").port("", 80);
    view.apply(asks.load_balancer_ip("203.0.113.1")).apply(endpoint_of("a"));
    view.expect(&[
        ("192.0.2.1:22", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.1:10250", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.1:80", EXTERNAL_CLIENT, "pass"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, &led_to("a")),
    ]);
}
