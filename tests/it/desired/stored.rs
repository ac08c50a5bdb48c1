//! Objects as the API server stores them: which count, and what of them.

use kube_ipvs_core::model::Settings;
use serde_json::{Value, json};

use super::web::{CLUSTER_IP, EXTERNAL_IP, LB_IP, NODE_PORT};
use crate::common::node_view::{EXTERNAL_CLIENT, NodeView, POD};
use crate::common::objects::{self, ServiceBuilder, SliceBuilder, ip, net, node, service_cidr};

/// What `slice` gives: an endpoint on this node and one elsewhere.
const BOTH: &str = "10.244.1.5:8080 10.244.2.5:8080";
const BOTH_TRANSLATED: &str = "~10.244.1.5:8080 ~10.244.2.5:8080";
const HERE: &str = "10.244.1.5:8080";

/// A ClusterIP Service, changed by a JSON merge patch.
fn service(patch: Value) -> ServiceBuilder {
    objects::service("default/web").cluster_ip("10.96.0.10").port("http", 80).patch(patch)
}

/// Its slice, changed by a JSON merge patch.
fn slice(patch: Value) -> SliceBuilder {
    let slice = objects::slice("default/web-a").port("http", 8080);
    slice.ready("10.244.1.5", "n1").ready("10.244.2.5", "n2").patch(patch)
}

/// A view with a Service and its slices.
fn view(service: &ServiceBuilder, slices: &[SliceBuilder]) -> NodeView {
    with_objects(NodeView::new(), service, slices)
}

fn with_objects(mut view: NodeView, service: &ServiceBuilder, slices: &[SliceBuilder]) -> NodeView {
    view.apply(service.convert().0);
    for slice in slices {
        view.apply(slice.convert().0);
    }
    view
}

/// Patches of the Service with what becomes of connections then: destination, source, answer.
type ServiceCase<'a> = (&'a str, Value, &'a [(&'a str, &'a str, &'a str)]);

#[track_caller]
fn expect_of_services(cases: &[ServiceCase<'_>]) {
    for (name, patch, answers) in cases {
        let view = view(&service(patch.clone()), &[slice(json!({}))]);
        for (destination, from, expected) in *answers {
            let answer = view.answer(destination, from);
            assert_eq!(answer, *expected, "{name}: {from} -> {destination}");
        }
    }
}

#[test]
fn a_named_proxy_serves_services_with_its_label() {
    let settings = Settings { service_proxy_name: Some("ours".into()), ..Settings::for_node("n1") };
    let cases = [
        (json!({}), "drop"),
        (json!({"service.kubernetes.io/service-proxy-name": "ours"}), BOTH),
        (json!({"service.kubernetes.io/service-proxy-name": "other"}), "drop"),
        (json!({"service.kubernetes.io/service-proxy-name": ""}), "drop"),
    ];
    for (labels, expected) in cases {
        let service = service(json!({"metadata": {"labels": labels}}));
        let view = with_objects(NodeView::with(&settings), &service, &[slice(json!({}))]);
        assert_eq!(view.answer(CLUSTER_IP, POD), expected, "{labels}");
    }
}

#[test]
fn services_are_selected_by_label_and_type() {
    let external = json!({"externalIPs": ["203.0.113.2"]});
    expect_of_services(&[
        ("a plain one", json!({}), &[(CLUSTER_IP, POD, BOTH)]),
        (
            "a label that only slices have a meaning for",
            json!({"metadata": {"labels": {"service.kubernetes.io/headless": ""}}}),
            &[(CLUSTER_IP, POD, BOTH)],
        ),
        (
            "another proxy's",
            json!({
                "metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}},
                "spec": external,
            }),
            &[(CLUSTER_IP, POD, "drop"), (EXTERNAL_IP, EXTERNAL_CLIENT, "pass")],
        ),
        (
            "another proxy's, which has no name",
            json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": ""}}}),
            &[(CLUSTER_IP, POD, "drop")],
        ),
        (
            "headless",
            json!({"spec": {
                "clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["203.0.113.2"],
            }}),
            &[(CLUSTER_IP, POD, "drop"), (EXTERNAL_IP, EXTERNAL_CLIENT, "pass")],
        ),
        (
            "without an address yet",
            json!({"spec": {
                "clusterIP": "", "clusterIPs": null, "externalIPs": ["203.0.113.2"],
            }}),
            &[(CLUSTER_IP, POD, "drop"), (EXTERNAL_IP, EXTERNAL_CLIENT, "pass")],
        ),
        (
            "a name for something else, though it has an address",
            json!({"spec": {"type": "ExternalName", "externalName": "db.example.org"}}),
            &[(CLUSTER_IP, POD, "drop")],
        ),
        (
            "of an old server: one address, no list",
            json!({"spec": {"clusterIPs": null, "ipFamilies": null}}),
            &[(CLUSTER_IP, POD, BOTH)],
        ),
        (
            "publishNotReadyAddresses is for whoever writes the slices",
            json!({"spec": {"publishNotReadyAddresses": true}}),
            &[(CLUSTER_IP, POD, BOTH)],
        ),
    ]);
}

#[test]
fn fields_of_a_service_make_its_front_ends() {
    let ingress = |ingress: Value| {
        json!({
            "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [ingress]}},
        })
    };
    let ports = |port: Value| json!({"spec": {"type": "NodePort", "ports": [port]}});
    expect_of_services(&[
        (
            "no ipMode",
            ingress(json!({"ip": "203.0.113.1"})),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED), (CLUSTER_IP, POD, BOTH)],
        ),
        (
            "ipMode VIP",
            ingress(json!({"ip": "203.0.113.1", "ipMode": "VIP"})),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "ipMode Proxy: packets come to the node ports",
            ingress(json!({"ip": "203.0.113.1", "ipMode": "Proxy"})),
            &[(LB_IP, EXTERNAL_CLIENT, "pass"), (LB_IP, POD, "pass"), (CLUSTER_IP, POD, BOTH)],
        ),
        ("a host name", ingress(json!({"hostname": "lb.example.org"})), &[(CLUSTER_IP, POD, BOTH)]),
        (
            "an address that is wished for, not given",
            json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "203.0.113.1"}}),
            &[(LB_IP, EXTERNAL_CLIENT, "pass")],
        ),
        (
            "the class of the load balancer does not matter",
            json!({
                "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.org/lb"},
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
            }),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "an external IP",
            json!({"spec": {"externalIPs": ["203.0.113.2", "not an address"]}}),
            &[(EXTERNAL_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "a node port",
            ports(json!({"name": "http", "port": 80, "nodePort": 30080})),
            &[(NODE_PORT, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "none allocated",
            json!({
                "spec": {
                    "type": "LoadBalancer",
                    "allocateLoadBalancerNodePorts": false,
                    "ports": [{"name": "http", "port": 80, "nodePort": 0}],
                },
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
            }),
            &[
                (NODE_PORT, EXTERNAL_CLIENT, "pass"),
                ("192.0.2.1:80", EXTERNAL_CLIENT, "pass"),
                (LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED),
            ],
        ),
        (
            "TCP where no protocol is named",
            ports(json!({"name": "http", "port": 80})),
            &[(CLUSTER_IP, POD, BOTH)],
        ),
        (
            "another protocol of the same name leads nowhere",
            ports(json!({"name": "http", "port": 80, "protocol": "UDP"})),
            &[("10.96.0.10:80/udp", POD, "reject"), (CLUSTER_IP, POD, "reject")],
        ),
        (
            "an external policy where nothing is external",
            json!({"spec": {"externalTrafficPolicy": "Local"}}),
            &[(CLUSTER_IP, POD, BOTH), (CLUSTER_IP, EXTERNAL_CLIENT, BOTH)],
        ),
        (
            "an external policy with an external IP",
            json!({"spec": {
                "externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.2"],
            }}),
            &[(EXTERNAL_IP, EXTERNAL_CLIENT, HERE), (CLUSTER_IP, POD, BOTH)],
        ),
        (
            "an internal policy",
            json!({"spec": {"internalTrafficPolicy": "Local"}}),
            &[(CLUSTER_IP, POD, HERE)],
        ),
    ]);
}

#[test]
fn source_ranges_are_read_leniently() {
    let ranges = |ranges: Value| {
        json!({
            "spec": {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
        })
    };
    expect_of_services(&[
        ("an empty list", ranges(json!([])), &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)]),
        (
            "blanks around it",
            ranges(json!([" 198.51.100.0/24 ", "\t192.0.2.0/28"])),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED), (LB_IP, "192.0.2.16", "drop")],
        ),
        (
            "everybody",
            ranges(json!(["192.0.2.0/28", "0.0.0.0/0"])),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "of the other family alone",
            ranges(json!(["2001:db8::/32"])),
            &[(LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED)],
        ),
        (
            "what cannot be read lets nobody in",
            ranges(json!(["198.51.100/24"])),
            &[(LB_IP, EXTERNAL_CLIENT, "drop"), (CLUSTER_IP, POD, BOTH)],
        ),
    ]);
}

/// As older API servers took and keep them (kubernetes#100895).
#[test]
fn leading_zeros_are_ignored_in_all_fields() {
    let node = node("n1").internal_ip("192.000.002.001").pod_cidr("010.244.001.0/24").value();
    assert_eq!(*node.internal_ips, [ip("192.0.2.1")]);
    assert_eq!(*node.pod_cidrs, [net("10.244.1.0/24")]);
    let cidrs = service_cidr("kubernetes", &["010.96.0.0/016"]).value();
    assert_eq!(*cidrs.cidrs, [net("10.96.0.0/16")]);

    let zeros = json!({
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.000.010",
            "clusterIPs": ["10.96.000.010"],
            "externalIPs": ["203.000.113.002"],
            "loadBalancerSourceRanges": ["0198.051.100.0/024"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.000.113.001"}]}},
    });
    let endpoints = json!({"endpoints": [
        {"addresses": ["10.244.001.005"], "nodeName": "n1"},
        {"addresses": ["10.244.2.05"], "nodeName": "n2"},
    ]});
    let service = service(zeros);
    assert_eq!(service.convert().1, []);
    view(&service, &[slice(endpoints)]).expect(&[
        (CLUSTER_IP, POD, BOTH),
        (EXTERNAL_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED),
        (LB_IP, EXTERNAL_CLIENT, BOTH_TRANSLATED),
        (LB_IP, "192.0.2.77", "drop"),
    ]);
}

#[test]
fn affinity_lasts_for_its_timeout() {
    let seconds = |seconds: Value| json!({"clientIP": {"timeoutSeconds": seconds}});
    let cases = [
        (json!({}), None),
        (json!({"sessionAffinity": "None"}), None),
        (json!({"sessionAffinityConfig": seconds(json!(60))}), None),
        (json!({"sessionAffinity": "ClientIP"}), Some(10_800)),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": seconds(json!(60))}),
            Some(60),
        ),
    ];
    for (spec, expected) in cases {
        let view = view(&service(json!({"spec": spec.clone()})), &[slice(json!({}))]);
        assert_eq!(view.explain(CLUSTER_IP, POD).affinity_seconds, expected, "{spec}");
    }
}

#[test]
fn families_come_in_any_order() {
    let v6_slice = slice(json!({
        "metadata": {"name": "web-6"},
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00:10:244:1::5"], "nodeName": "n1"}],
    }));
    let (v4, v6) = ("10.96.0.10", "fd00:10:96::a");
    let cases = [
        (vec![v4], BOTH, "drop"),
        (vec![v6], "drop", "[fd00:10:244:1::5]:8080"),
        (vec![v4, v6], BOTH, "[fd00:10:244:1::5]:8080"),
        (vec![v6, v4], BOTH, "[fd00:10:244:1::5]:8080"),
    ];
    for (ips, expected_v4, expected_v6) in cases {
        let families = ips.iter().map(|ip| if *ip == v4 { "IPv4" } else { "IPv6" });
        let families: Vec<_> = families.collect();
        let spec = json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families});
        let slices = [slice(json!({})), v6_slice.clone()];
        let view = view(&service(json!({"spec": spec})), &slices);
        view.expect(&[
            (CLUSTER_IP, POD, expected_v4),
            ("[fd00:10:96::a]:80", "fd00:10:244:1::9", expected_v6),
        ]);
    }
}

#[test]
fn fields_of_a_slice_select_its_endpoints() {
    let endpoint = |endpoint: Value| json!({"endpoints": [endpoint]});
    let with_conditions = |conditions: Value| {
        json!({"endpoints": [{
            "addresses": ["10.244.1.5"], "conditions": conditions, "nodeName": "n1",
        }]})
    };
    let ports = |ports: Value| json!({"ports": ports});
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let cases = [
        ("a plain one", json!({}), BOTH),
        ("without a Service's name", labels(json!({"kubernetes.io/service-name": null})), "reject"),
        ("of another Service", labels(json!({"kubernetes.io/service-name": "other"})), "reject"),
        ("headless", labels(json!({"service.kubernetes.io/headless": ""})), "reject"),
        (
            "labelled as another proxy's, which its Service is not",
            labels(json!({"service.kubernetes.io/service-proxy-name": "other"})),
            BOTH,
        ),
        (
            "of names",
            json!({"addressType": "FQDN", "endpoints": [{"addresses": ["db.example.org"]}]}),
            "reject",
        ),
        ("of the other family", json!({"addressType": "IPv6"}), "reject"),
        ("no port", ports(json!(null)), "reject"),
        ("a port without a number", ports(json!([{"name": "http", "protocol": "TCP"}])), "reject"),
        ("port 0", ports(json!([{"name": "http", "port": 0}])), "reject"),
        ("a port without a name", ports(json!([{"port": 8080, "protocol": "TCP"}])), "reject"),
        ("another name", ports(json!([{"name": "https", "port": 8080}])), "reject"),
        ("another protocol", ports(json!([{"name": "http", "port": 8080, "protocol": "UDP"}])), {
            "reject"
        }),
        ("no protocol", ports(json!([{"name": "http", "port": 8080}])), BOTH),
        (
            "several ports",
            ports(json!([{"name": "https", "port": 8443}, {"name": "http", "port": 9090}])),
            "10.244.1.5:9090 10.244.2.5:9090",
        ),
        (
            "several addresses: the first",
            endpoint(json!({"addresses": ["10.244.1.5", "10.244.1.6"]})),
            HERE,
        ),
        ("no address", endpoint(json!({"addresses": []})), "reject"),
        ("an address that is none", endpoint(json!({"addresses": ["web"]})), "reject"),
        ("no conditions", endpoint(json!({"addresses": ["10.244.1.5"]})), HERE),
        ("conditions that say nothing", with_conditions(json!({})), HERE),
        ("not ready", with_conditions(json!({"ready": false})), "reject"),
        ("ready alone", with_conditions(json!({"ready": true})), HERE),
        (
            "terminating, of unknown service: it serves",
            with_conditions(json!({"ready": false, "terminating": true})),
            HERE,
        ),
        (
            "terminating, and no longer serving",
            with_conditions(json!({"ready": false, "serving": false, "terminating": true})),
            "reject",
        ),
        (
            "published though it is not ready",
            with_conditions(json!({"ready": true, "serving": false, "terminating": false})),
            HERE,
        ),
    ];
    for (name, patch, expected) in cases {
        let view = view(&service(json!({})), &[slice(patch)]);
        assert_eq!(view.answer(CLUSTER_IP, POD), expected, "{name}");
    }
}

#[test]
fn hints_and_node_names_are_those_of_the_slice() {
    let of = |patch: Value| {
        let slice = objects::slice("default/web-a").port("http", 8080);
        let slice = slice.ready("10.244.1.5", "n1").patch_endpoint(patch);
        slice.ready("10.244.2.5", "n2").for_zones(&["z2"]).for_nodes(&["n2"])
    };
    let local = json!({"spec": {"externalIPs": ["203.0.113.2"], "externalTrafficPolicy": "Local"}});
    // Patch of the endpoint here, answers at the ClusterIP and under policy Local.
    let cases = [
        (json!({}), BOTH, HERE),
        (json!({"hints": {"forZones": [{"name": "z1"}]}}), HERE, HERE),
        (json!({"hints": {"forZones": [{"name": "z3"}]}}), BOTH, HERE),
        (json!({"hints": {"forNodes": [{"name": "n1"}]}}), HERE, HERE),
        (json!({"hints": {}}), BOTH, HERE),
        // A zone alone is not a hint.
        (json!({"zone": "z1"}), BOTH, HERE),
        (json!({"nodeName": null}), BOTH, "drop"),
        (json!({"nodeName": "n3"}), BOTH, "drop"),
    ];
    for (patch, cluster, at_home) in cases {
        let view = view(&service(local.clone()), &[of(patch.clone())]);
        assert_eq!(view.answer(CLUSTER_IP, POD), cluster, "{patch}");
        assert_eq!(view.answer(EXTERNAL_IP, EXTERNAL_CLIENT), at_home, "{patch}");
    }
}
