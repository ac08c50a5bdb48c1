//! JSON and protobuf say the same.

use std::fs;
use std::path::Path;

use kube_ipvs::source::kubernetes::Encoding;
use kube_ipvs::source::wire::{
    ApiStatus, NodeObject, Resource, ServiceCidrObject, ServiceObject, SliceObject,
};
use kube_ipvs_core::model::Interner;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::api::protobuf::fields::{
    Field, Kind, Message, NODE, SERVICE, SERVICE_CIDR, SLICE, STATUS,
};
use crate::api::protobuf::{Form, message, object};

const KINDS: [(&str, Message); 4] =
    [("Service", SERVICE), ("EndpointSlice", SLICE), ("Node", NODE), ("ServiceCIDR", SERVICE_CIDR)];

/// What Kubernetes' own encoder wrote of the JSON beside it: `runtime/serializer/protobuf` of
/// apimachinery 0.32.3 and, for events, its frame writer. Fields that it does not know, as
/// `forNodes`, are not in there.
#[test]
fn the_stand_in_writes_what_kubernetes_does() {
    let mut count = 0;
    for entry in fs::read_dir("tests/api/protobuf/samples").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let value: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let of = |value: &Value| {
            let kind = value["kind"].as_str().unwrap().trim_end_matches("List");
            KINDS.iter().find(|(name, _)| *name == kind).map_or(STATUS, |(_, message)| message)
        };
        let form = |message| Form { encoding: Encoding::Protobuf, message };
        let written = match (&value["type"], &value["items"]) {
            (Value::Null, Value::Null) => object(of(&value), &value),
            (Value::Null, _) => form(of(&value)).whole(&value),
            _ => form(of(&value["object"])).event(&value),
        };
        assert_same(&written, &path.with_extension("pb"));
        count += 1;
    }
    assert_eq!(count, 11);
}

fn assert_same(written: &[u8], path: &Path) {
    let expected = fs::read(path).unwrap();
    let differs = written.iter().zip(&expected).position(|(a, b)| a != b);
    assert!(written == expected, "{}: differs at {differs:?}", path.display());
}

/// Reads an object as it is in JSON and in protobuf: equal, and equal to the model.
fn read_both<R>(of: Message, value: &Value) -> Option<R::Value>
where
    R: Resource,
    R::Value: PartialEq + std::fmt::Debug,
{
    let json: R = serde_json::from_str(&value.to_string()).unwrap();
    let protobuf = R::decode(&message(of, value)[..]).unwrap();
    let json = json.convert(&mut Interner::default());
    let protobuf = protobuf.convert(&mut Interner::default());
    assert_eq!(json, protobuf, "{value}");
    json.0
}

/// The same of an object of one of the kinds. Says whether it was of use.
fn read(kind: usize, value: &Value) -> bool {
    match kind {
        0 => read_both::<ServiceObject>(SERVICE, value).is_some(),
        1 => read_both::<SliceObject>(SLICE, value).is_some(),
        2 => read_both::<NodeObject>(NODE, value).is_some_and(|it| !it.internal_ips.is_empty()),
        _ => read_both::<ServiceCidrObject>(SERVICE_CIDR, value)
            .is_some_and(|it| !it.cidrs.is_empty()),
    }
}

#[test]
fn samples_are_read_as_the_same_objects() {
    let names = ["service", "endpointslice", "node", "servicecidr"];
    for (kind, name) in names.into_iter().enumerate() {
        let path = format!("tests/api/protobuf/samples/{name}.json");
        let value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(read(kind, &value), "{name}");
    }
    let text = fs::read_to_string("tests/api/protobuf/samples/status.json").unwrap();
    let status: ApiStatus = serde_json::from_str(&text).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ApiStatus::decode(&message(STATUS, &value)[..]).unwrap(), status);
    assert_eq!((status.code, status.retry_after_seconds()), (429, Some(7)));
}

const WORDS: &[&str] = &[
    "",
    "None",
    "10.96.0.1",
    "10.96.0.300",
    "fd00::1",
    "::ffff:10.0.0.1",
    "127.0.0.1",
    "10.0.0.0/8",
    "::/0",
    "0.0.0.0/99",
    "TCP",
    "UDP",
    "SCTP",
    "IPv4",
    "IPv6",
    "FQDN",
    "ClientIP",
    "Local",
    "Cluster",
    "ClusterIP",
    "LoadBalancer",
    "NodePort",
    "ExternalName",
    "InternalIP",
    "VIP",
    "Proxy",
    "ToBeDeletedByClusterAutoscaler",
    "2026-01-02T03:04:05.678Z",
    "web",
];

const KEYS: &[&str] = &[
    "kubernetes.io/service-name",
    "service.kubernetes.io/headless",
    "service.kubernetes.io/service-proxy-name",
    "topology.kubernetes.io/zone",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "app",
];

fn any_text() -> impl Strategy<Value = Value> {
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => ".{0,12}"].prop_map(Value::from)
}

/// A value that fits a field.
fn any_value(field: &'static Field) -> BoxedStrategy<Value> {
    let one = match field.kind {
        Kind::Text => any_text().boxed(),
        Kind::Number => prop_oneof![any::<i32>(), 0..70_000, Just(0)].prop_map(Value::from).boxed(),
        Kind::Flag => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Map => vec((select(KEYS), any_text()), 0..4)
            .prop_map(|entries| {
                Map::from_iter(entries.into_iter().map(|(key, value)| (key.to_owned(), value)))
            })
            .prop_map(Value::from)
            .boxed(),
        Kind::Time => select(&["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"][..])
            .prop_map(Value::from)
            .boxed(),
        Kind::NumberOrText => prop_oneof![any_text(), any::<i32>().prop_map(Value::from)].boxed(),
        Kind::Json => Just(json!({ "f:spec": {} })).boxed(),
        Kind::Message(of) => any_message(of),
    };
    let one = match field.is_list {
        true => vec(one, 0..4).prop_map(Value::from).boxed(),
        false => one,
    };
    // `null` is as good as nothing.
    prop_oneof![12 => one, 1 => Just(Value::Null)].boxed()
}

/// An object with some of the fields of a message.
fn any_message(of: Message) -> BoxedStrategy<Value> {
    let field = |field: &'static Field| {
        option::weighted(0.8, any_value(field)).prop_map(|value| Some((field.name, value?)))
    };
    of.iter()
        .map(field)
        .collect::<Vec<_>>()
        .prop_map(|fields| {
            let fields = fields.into_iter().flatten();
            Map::from_iter(fields.map(|(name, value)| (name.to_owned(), value))).into()
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_service_is_read_the_same(value in any_message(SERVICE)) {
        read(0, &value);
    }

    #[test]
    fn any_slice_is_read_the_same(value in any_message(SLICE)) {
        read(1, &value);
    }

    #[test]
    fn any_node_is_read_the_same(value in any_message(NODE)) {
        read(2, &value);
    }

    #[test]
    fn any_service_cidr_is_read_the_same(value in any_message(SERVICE_CIDR)) {
        read(3, &value);
    }
}
