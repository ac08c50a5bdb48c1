//! Whatever is written, reading it never panics.

use std::fs;

use kube_ipvs::source::manifests::load;
use kube_ipvs::source::wire::{
    NodeObject, Resource, ServiceCidrObject, ServiceObject, SliceObject,
};
use kube_ipvs_core::model::Interner;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Names that lead deep into what is read.
const FIELDS: &[&str] = &[
    "kind",
    "apiVersion",
    "metadata",
    "name",
    "namespace",
    "labels",
    "creationTimestamp",
    "items",
    "kubernetes.io/service-name",
    "spec",
    "status",
    "type",
    "clusterIP",
    "clusterIPs",
    "ports",
    "port",
    "nodePort",
    "protocol",
    "externalIPs",
    "loadBalancer",
    "ingress",
    "ip",
    "ipMode",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
    "clientIP",
    "timeoutSeconds",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "addressType",
    "endpoints",
    "addresses",
    "conditions",
    "ready",
    "nodeName",
    "targetRef",
    "hints",
    "forZones",
    "forNodes",
    "podCIDR",
    "podCIDRs",
    "taints",
    "key",
    "address",
    "cidrs",
];

const WORDS: &[&str] = &[
    "",
    "None",
    "Service",
    "EndpointSlice",
    "Node",
    "ServiceCIDR",
    "Pod",
    "List",
    "ServiceList",
    "v1",
    "discovery.k8s.io/v1",
    "networking.k8s.io/v1",
    "10.96.0.1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "10.0.0.0/8",
    "::/0",
    "0.0.0.0/99",
    "TCP",
    "UDP",
    "IPv4",
    "IPv6",
    "FQDN",
    "ClientIP",
    "Local",
    "LoadBalancer",
    "InternalIP",
    "Proxy",
    "2026-01-02T03:04:05Z",
    "-262144-01-01T00:00:00Z",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(WORDS).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(select(FIELDS), inner, 0..8).prop_map(|fields| {
                let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                Value::Object(Map::from_iter(fields))
            }),
        ]
    })
}

/// Puts a value where one of an object's fields is.
fn put_at(object: &mut Value, at: usize, value: Value) {
    fn places<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
        if *left == 0 {
            return Some(value);
        }
        *left -= 1;
        match value {
            Value::Object(fields) => fields.values_mut().find_map(|value| places(value, left)),
            Value::Array(items) => items.iter_mut().find_map(|value| places(value, left)),
            _ => None,
        }
    }
    if let Some(place) = places(object, &mut { at }) {
        *place = value;
    }
}

fn convert(object: &Value) {
    let names = &mut Interner::default();
    let _ = ServiceObject::deserialize(object).map(|object| object.convert(names));
    let _ = SliceObject::deserialize(object).map(|object| object.convert(names));
    let _ = NodeObject::deserialize(object).map(|object| object.convert(names));
    let _ = ServiceCidrObject::deserialize(object).map(|object| object.convert(names));
}

fn good() -> Vec<Value> {
    vec![
        json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": { "a": "b" } },
            "spec": { "type": "LoadBalancer", "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1", "fd00::1"], "externalIPs": ["192.0.2.1"],
                "ports": [{ "name": "a", "port": 80, "nodePort": 30000, "protocol": "TCP" }],
                "loadBalancerSourceRanges": ["10.0.0.0/8"], "healthCheckNodePort": 31000,
                "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } } },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.2", "ipMode": "VIP" }] } } }),
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4", "ports": [{ "name": "a", "port": 80, "protocol": "TCP" }],
            "endpoints": [{ "addresses": ["10.0.0.1"], "nodeName": "n",
                "targetRef": { "kind": "Pod", "name": "web-0" },
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "hints": { "forZones": [{ "name": "z" }], "forNodes": [{ "name": "n" }] } }] }),
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" },
            "spec": { "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"],
                "taints": [{ "key": "k" }] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } }),
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": "c" }, "spec": { "cidrs": ["10.96.0.0/16"] } }),
    ]
}

/// Reads the texts as files of a directory.
fn read(files: &[(&str, &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    load(folder.path(), &"n".into()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_json_is_converted_or_refused(value in any_json()) {
        convert(&value);
    }

    #[test]
    fn any_field_may_be_anything(index in 0..4_usize, at in 0..60_usize, value in any_json()) {
        let mut object = good().swap_remove(index);
        put_at(&mut object, at, value);
        convert(&object);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_may_be_in_a_file(bytes in vec(any::<u8>(), 0..400), text in "[ -~\n]{0,200}") {
        read(&[("a.yaml", &bytes), ("b.json", &bytes), ("c.yml", text.as_bytes())]);
    }

    #[test]
    fn any_object_may_be_in_a_file(index in 0..4_usize, at in 0..60_usize, value in any_json()) {
        let mut object = good().swap_remove(index);
        put_at(&mut object, at, value);
        let text = object.to_string();
        read(&[("a.yaml", text.as_bytes()), ("b.json", text.as_bytes())]);
    }

    #[test]
    fn a_file_may_end_anywhere(index in 0..4_usize, end in 0..600_usize) {
        let text = serde_saphyr::to_string(&good().swap_remove(index)).unwrap();
        let end = end.min(text.len());
        read(&[("a.yaml", &text.as_bytes()[..end])]);
    }
}
