//! Where clients may lookup, which addresses are refused, and who has one that several ask for.

use kube_ipvs_core::model::{Event, NodePortAddresses, RefusalReason, Settings};

use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{
    ServiceBuilder, ip, listening, net, node, service, slice, without_service,
};

fn web() -> ServiceBuilder {
    service("default/web").cluster_ip("10.96.0.10").port("", 80)
}

fn endpoint() -> crate::common::objects::SliceBuilder {
    slice("default/web-a").port("", 8080).ready("10.244.2.5", "n2")
}

const OPEN: &str = "~10.244.2.5:8080";

#[test]
fn every_kind_of_address_leads_to_the_service() {
    let mut view = NodeView::new();
    view.apply(
        web()
            .external_ip("203.0.113.2")
            .external_ip("203.0.113.3")
            .load_balancer_ip("203.0.113.1")
            .load_balancer_ip("203.0.113.4")
            .node_port(30080),
    )
    .apply(endpoint());
    for (address, kind) in [
        ("10.96.0.10:80", "ClusterIP"),
        ("203.0.113.2:80", "ExternalIP"),
        ("203.0.113.3:80", "ExternalIP"),
        ("203.0.113.1:80", "LoadBalancer"),
        ("203.0.113.4:80", "LoadBalancer"),
        ("192.0.2.1:30080", "NodePort"),
    ] {
        let answer = view.explain(address, POD);
        assert_eq!(
            answer.frontend.map(|kind| kind.to_string()).as_deref(),
            Some(kind),
            "{address}"
        );
        let service = answer.service.map(|(key, port)| (key.to_string(), port));
        assert_eq!(service, Some(("default/web".to_owned(), String::new())), "{address}");
        assert_eq!(answer.backends.len(), 1, "{address}");
    }
}

#[test]
fn node_ports_stand_at_configured_addresses() {
    type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);
    // Ranges, addresses that take node ports, addresses that do not.
    let cases: &[Case] = &[
        (&[], &["192.0.2.1", "[2001:db8::1]"], &["192.0.2.7", "127.0.0.1"]),
        (&["0.0.0.0/0"], &["192.0.2.1", "192.0.2.7", "[2001:db8::1]"], &["127.0.0.1"]),
        (&["192.0.2.7/32"], &["192.0.2.7", "[2001:db8::1]"], &["192.0.2.1"]),
        (&["192.0.2.0/24", "2001:db8::/64"], &["192.0.2.1", "192.0.2.7", "[2001:db8::1]"], &[]),
        (&["10.0.0.0/8"], &["[2001:db8::1]"], &["192.0.2.1", "192.0.2.7"]),
        (&["127.0.0.0/8"], &["[2001:db8::1]"], &["192.0.2.1", "127.0.0.1"]),
        (&["::/0"], &["192.0.2.1", "[2001:db8::1]"], &["192.0.2.7"]),
    ];
    for (ranges, open, closed) in cases {
        let mut settings = Settings::for_node("n1");
        if !ranges.is_empty() {
            let ranges = ranges.iter().map(|range| net(range)).collect();
            settings.node_port_addresses = NodePortAddresses::Ranges(ranges);
        }
        let mut view = NodeView::with(&settings);
        view.apply(
            node("n1").internal_ip("192.0.2.1").internal_ip("2001:db8::1").internal_ip("192.0.2.7"),
        )
        .apply(web().cluster_ip("fd00:10:96::a").node_port(30080));
        for address in *open {
            let answer = view.answer(&format!("{address}:30080"), POD);
            assert_eq!(answer, "reject", "{ranges:?}: {address} is a front end without endpoints");
        }
        for address in *closed {
            let answer = view.answer(&format!("{address}:30080"), POD);
            assert_eq!(answer, "pass", "{ranges:?}: {address}");
        }
    }
}

#[test]
fn node_ports_follow_the_node_s_addresses() {
    let mut view = NodeView::new();
    view.apply(web().node_port(30080)).apply(endpoint());
    view.expect(&[("192.0.2.1:30080", EXTERNAL_CLIENT, OPEN)]);
    view.apply(node("n1").internal_ip("192.0.2.77"));
    view.expect(&[
        ("192.0.2.1:30080", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.77:30080", EXTERNAL_CLIENT, OPEN),
    ]);
}

#[test]
fn a_port_without_a_node_port_has_none() {
    let mut view = NodeView::new();
    view.apply(web().node_port(30080).port("admin", 81).load_balancer_ip("203.0.113.1"))
        .apply(endpoint().port("admin", 9090));
    view.expect(&[
        ("203.0.113.1:81", EXTERNAL_CLIENT, "~10.244.2.5:9090"),
        ("192.0.2.1:30080", EXTERNAL_CLIENT, OPEN),
        ("192.0.2.1:81", EXTERNAL_CLIENT, "pass"),
    ]);
}

#[test]
fn a_cluster_ip_port_equal_to_another_s_node_port_is_just_a_port() {
    let mut view = NodeView::new();
    view.apply(web().node_port(8443))
        .apply(endpoint())
        .apply(service("default/other").cluster_ip("10.96.0.20").port("", 8443).local_internal())
        .apply(slice("default/other-a").port("", 443).ready("10.244.1.6", "n1"));
    view.expect(&[
        ("10.96.0.20:8443", POD, "10.244.1.6:443"),
        ("192.0.2.1:8443", EXTERNAL_CLIENT, OPEN),
        ("10.96.0.10:8443", POD, "reject"),
    ]);
}

#[test]
fn addresses_needed_by_others_are_refused_alone() {
    for (address, reason) in [
        ("192.0.2.1", RefusalReason::Listened),
        ("192.0.2.100", RefusalReason::ApiServer),
        ("10.96.0.77", RefusalReason::ServiceRange),
        ("250.96.0.77", RefusalReason::ShadowRange),
    ] {
        for web in [
            web().load_balancer_ip(address).load_balancer_ip("203.0.113.1"),
            web().external_ip(address).external_ip("203.0.113.1"),
        ] {
            let mut view = NodeView::new();
            view.apply(
                slice("default/kubernetes")
                    .of("default/kubernetes")
                    .port("https", 80)
                    .ready("192.0.2.100", ""),
            )
            .apply(listening(&["0.0.0.0:80"]))
            .apply(web)
            .apply(endpoint());
            let program = view.desired_service("default/web");
            let refusals: Vec<_> =
                program.refusals.iter().map(|it| (it.address.ip, it.reason)).collect();
            assert_eq!(refusals, [(ip(address), reason)]);
            view.expect(&[
                ("203.0.113.1:80", EXTERNAL_CLIENT, OPEN),
                ("10.96.0.10:80", POD, "10.244.2.5:8080"),
            ]);
            assert_ne!(view.answer(&format!("{address}:80"), EXTERNAL_CLIENT), OPEN, "{address}");
        }
    }
}

#[test]
fn an_external_ip_that_is_also_the_load_balancer_s_is_one_front_end() {
    let mut view = NodeView::new();
    view.apply(web().external_ip("203.0.113.1").load_balancer_ip("203.0.113.1")).apply(endpoint());
    assert_eq!(view.desired_service("default/web").frontends.len(), 2);
    view.expect(&[("203.0.113.1:80", EXTERNAL_CLIENT, OPEN)]);
}

/// Two Services that ask for one load balancer IP and port, and the slices of both.
fn rivals() -> [Event; 4] {
    let rival = |name: &str, cluster_ip, created| {
        service(name)
            .cluster_ip(cluster_ip)
            .load_balancer_ip("203.0.113.1")
            .port("", 80)
            .created(created)
            .into()
    };
    [
        rival("default/younger", "10.96.0.20", 200),
        rival("default/older", "10.96.0.21", 100),
        slice("default/younger-a").port("", 80).ready("10.244.2.6", "n2").into(),
        slice("default/older-a").port("", 80).ready("10.244.2.7", "n2").into(),
    ]
}

#[test]
fn the_older_of_two_services_gets_a_front_end() {
    for order in [[0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut view = NodeView::new();
        for index in order {
            view.apply(rivals()[index].clone());
        }
        view.expect(&[
            ("203.0.113.1:80", EXTERNAL_CLIENT, "~10.244.2.7:80"),
            ("10.96.0.20:80", POD, "10.244.2.6:80"),
        ]);
        let refusals = view.desired_service("default/younger").refusals;
        let older = RefusalReason::Taken("203.0.113.1:80".parse().unwrap());
        assert_eq!(refusals.iter().map(|it| &it.reason).collect::<Vec<_>>(), [&older]);
        view.apply(without_service("default/older"));
        view.expect(&[("203.0.113.1:80", EXTERNAL_CLIENT, "~10.244.2.6:80")]);
        assert_eq!(*view.desired_service("default/younger").refusals, []);
        view.apply(rivals()[1].clone());
        view.expect(&[("203.0.113.1:80", EXTERNAL_CLIENT, "~10.244.2.7:80")]);
    }
}

#[test]
fn a_load_balancer_ip_may_be_shared_by_port() {
    let mut view = NodeView::new();
    view.apply(web().load_balancer_ip("203.0.113.1"))
        .apply(endpoint())
        .apply(
            service("default/dns")
                .cluster_ip("10.96.0.20")
                .load_balancer_ip("203.0.113.1")
                .udp("", 80),
        )
        .apply(slice("default/dns-a").udp("", 53).ready("10.244.2.6", "n2"));
    view.expect(&[
        ("203.0.113.1:80/tcp", EXTERNAL_CLIENT, OPEN),
        ("203.0.113.1:80/udp", EXTERNAL_CLIENT, "~10.244.2.6:53"),
    ]);
}

#[test]
fn a_duplicate_cluster_ip_leads_to_its_owner_only() {
    let mut view = NodeView::new();
    view.apply(web().created(100))
        .apply(endpoint())
        .apply(
            service("default/copy")
                .cluster_ip("10.96.0.10")
                .load_balancer_ip("203.0.113.1")
                .port("", 80)
                .node_port(30080)
                .local_external()
                .created(200),
        )
        .apply(slice("default/copy-a").port("", 80).ready("10.244.1.6", "n1"));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.2.5:8080"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, "pass"),
        ("192.0.2.1:30080", POD, "pass"),
    ]);
    view.apply(without_service("default/web"));
    view.expect(&[
        ("10.96.0.10:80", POD, "10.244.1.6:80"),
        ("203.0.113.1:80", EXTERNAL_CLIENT, "10.244.1.6:80"),
        ("192.0.2.1:30080", POD, "10.244.1.6:80"),
    ]);
}

#[test]
fn a_kernel_without_ipv6_has_no_front_end_of_it() {
    let mut view = NodeView::new();
    view.apply(node("n1").internal_ip("192.0.2.1").internal_ip("2001:db8::1"))
        .apply(
            web()
                .cluster_ip("fd00:10:96::a")
                .external_ip("2001:db8::99")
                .load_balancer_ip("203.0.113.1")
                .node_port(30080),
        )
        .apply(endpoint());
    let addresses = |view: &NodeView| -> Vec<String> {
        let program = view.desired_service("default/web");
        program.frontends.iter().map(|it| it.address.to_string()).collect()
    };
    let of_ipv4 = ["0.0.0.0:30080/tcp", "10.96.0.10:80/tcp", "203.0.113.1:80/tcp"];
    let all = addresses(&view);
    assert_eq!(all.len(), 6, "{all:?}");
    view.apply(Event::Ipv6(false));
    assert_eq!(addresses(&view), of_ipv4);
    assert_eq!(view.desired_service("default/web").routes.len(), 1);
    assert_eq!(view.desired().context().node_port_ips, [ip("192.0.2.1")]);
    view.apply(Event::Ipv6(true));
    assert_eq!(addresses(&view), all);
}
