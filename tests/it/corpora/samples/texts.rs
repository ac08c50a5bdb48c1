//! Objects, files and questions as people and servers write them.

use std::fs;

use kube_ipvs::config::{resolve_text, write};
use kube_ipvs::source::kubernetes::Encoding;
use serde_json::{Value, json};

use super::Sample;
use crate::api::objects::{node, service, service_cidr, slice};
use crate::api::protobuf::Form;
use crate::api::protobuf::fields::{NODE, SERVICE, SERVICE_CIDR, SLICE};

pub fn all() -> Vec<Sample> {
    let mut samples = protobuf();
    let mut add = |target, name: &str, text: String| {
        samples.push((target, name.to_owned(), text.into_bytes()));
    };
    for object in objects() {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        add("objects", &kind, object.to_string());
        let line = json!({ "type": "ADDED", "object": object }).to_string();
        add("api", &format!("added-{kind}"), line);
        let list = json!({ "kind": format!("{kind}List"), "metadata":
            { "resourceVersion": "7", "continue": "more" }, "items": [object, object] });
        add("api", &format!("list-{kind}"), list.to_string());
    }
    for (name, line) in lines() {
        add("api", name, line.to_string());
    }
    for entry in fs::read_dir("manifests/demo").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        add("manifests", name, fs::read_to_string(&path).unwrap());
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects() });
    add("manifests", "list", list.to_string());
    add("manifests", "aliases", ALIASES.to_owned());
    add("manifests", "styles", STYLES.to_owned());
    let head = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration";
    add("config", "written", write(&resolve_text(head).unwrap()));
    add("config", "kubeadm", KUBEADM.to_owned());
    add("config", "own", OWN.to_owned());
    for (number, text) in TEXTS.iter().enumerate() {
        add("texts", &format!("text-{number}"), (*text).to_owned());
    }
    for (number, text) in TIMES.iter().enumerate() {
        add("timestamps", &format!("time-{number}"), (*text).to_owned());
    }
    for (number, text) in QUERIES.iter().enumerate() {
        add("query", &format!("query-{number}"), (*text).to_owned());
    }
    samples
}

/// What `api` has in JSON.
fn protobuf() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name: &str, data| samples.push(("api_protobuf", name.to_owned(), data));
    let forms = [SERVICE, SLICE, NODE, SERVICE_CIDR]
        .map(|message| Form { encoding: Encoding::Protobuf, message });
    for (form, object) in forms.into_iter().zip(objects()) {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        let event = json!({ "type": "ADDED", "object": object });
        add(&format!("added-{kind}"), form.event(&event)[4..].to_vec());
        let list = json!({ "metadata": { "resourceVersion": "7", "continue": "more" },
            "items": [object, object] });
        add(&format!("list-{kind}"), form.whole(&list));
    }
    for (name, event) in lines() {
        let data = match event["items"] {
            Value::Null => forms[0].event(&event)[4..].to_vec(),
            _ => forms[0].whole(&event),
        };
        add(name, data);
    }
    samples
}

fn objects() -> [Value; 4] {
    let mut full = service("web", "10.96.0.1");
    full["metadata"]["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
    full["metadata"]["labels"] = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    let spec = json!({ "type": "LoadBalancer", "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"], "externalIPs": ["192.0.2.1", "::ffff:192.0.2.3"],
        "ports": [{ "name": "a", "port": 80, "nodePort": 30000, "protocol": "TCP" },
            { "name": "b", "port": 53, "protocol": "UDP" }],
        "loadBalancerSourceRanges": [" 10.0.0.0/8"], "healthCheckNodePort": 31000,
        "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } } });
    full["spec"] = spec;
    full["status"] =
        json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.2", "ipMode": "VIP" }] } });
    let mut endpoints = slice("web-1", "web", &["10.244.1.5", "10.244.1.6"]);
    endpoints["metadata"]["annotations"] = json!({
        "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05.678Z" });
    endpoints["endpoints"][0] = json!({ "addresses": ["10.244.1.5"], "nodeName": "node",
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "hints": { "forZones": [{ "name": "z" }], "forNodes": [{ "name": "node" }] } });
    let mut own = node("node", "192.0.2.9");
    own["spec"]["taints"] = json!([{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "x" }]);
    own["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    [full, endpoints, own, service_cidr("kubernetes", "10.96.0.0/12")]
}

fn lines() -> [(&'static str, Value); 5] {
    let odd = json!({ "metadata": { "name": "web", "namespace": "default",
        "resourceVersion": "7" }, "spec": { "ports": [{ "port": 80 }, { "port": "x" }] } });
    let ends = json!({ "kind": "Service", "apiVersion": "v1", "metadata": {
        "resourceVersion": "12", "annotations": { "k8s.io/initial-events-end": "true" } } });
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410 });
    [
        ("odd", json!({ "type": "MODIFIED", "object": odd })),
        ("odd-list", json!({ "metadata": { "resourceVersion": "7" }, "items": [odd] })),
        ("deleted", json!({ "type": "DELETED", "object": service("web", "10.96.0.1") })),
        ("bookmark", json!({ "type": "BOOKMARK", "object": ends })),
        ("error", json!({ "type": "ERROR", "object": gone })),
    ]
}

const ALIASES: &str = "\
apiVersion: v1
kind: Service
metadata: &meta {name: web, labels: &labels {a: b}}
spec: &spec
  clusterIP: 10.96.0.1
  ports: [&port {port: 80, name: a}, *port, {<<: *port, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {<<: *meta, name: other}
spec: *spec
";

const STYLES: &str = "\
%YAML 1.2
---
# A comment.
kind: !!str Service
apiVersion: 'v1'
metadata:
  ? name
  : \"w\\x65b\"
  namespace: >-
    folded
    text
spec:
  clusterIP: |
    10.96.0.1
  ports:
  - {port: 0x50, nodePort: 30_000}
  - {port: 1e2, nodePort: ~}
...
---
- not an object
";

const KUBEADM: &str = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: '::'
bindAddressHardFail: true
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
conntrack: {maxPerCore: 0, min: null, tcpCloseWaitTimeout: 1h30m, udpTimeout: 1.5s}
detectLocal: {bridgeInterface: cni0, interfaceNamePrefix: cali}
detectLocalMode: BridgeInterface
healthzBindAddress: '[::]:10256'
iptables: {masqueradeAll: true}
ipvs:
  excludeCIDRs: [10.0.0.0/8]
  scheduler: mh
  syncPeriod: 1m
  tcpTimeout: 15m
logging: {format: json, verbosity: 4}
metricsBindAddress: :10249
mode: ipvs
nodePortAddresses: [192.0.2.0/24]
oomScoreAdj: -998
turbo: true
";

const OWN: &str = "\
---
apiVersion: kube-ipvs.io/v1alpha1
kind: KubeIpvsConfiguration
serviceCIDRs: [10.96.0.0/12, fd00:96::/112]
auditPeriod: 0s
drainPeriod: 30s
carry: offload
offloadInterfaces: [eth0, cali*]
removeKubeProxy: true
serviceProxyName: other
trafficMetricsServices: 100
trafficMetricsSelector: team=shop
";

const TEXTS: [&str; 9] = [
    "10.96.0.10:53/udp",
    "[fd00::a]:443",
    "[fe80::1%7]:443/TCP",
    "[::ffff:10.0.0.1]:9/sctp",
    "node",
    "2001:db8::1",
    "fifteen-letters",
    "eth0.100",
    "wlc",
];

const TIMES: [&str; 6] = [
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.678+01:30",
    "1969-12-31T23:59:59.999999999Z",
    "-262144-01-01T00:00:00Z",
    "9999-12-31T23:59:60-23:59",
    "2026-01-02 03:04[Europe/Berlin]",
];

const QUERIES: [&str; 4] = [
    "destination=10.96.0.10:53/udp&from=node",
    "from=10.0.0.1&destination=%5Bfd00%3A%3Aa%5D%3A53%2Fudp&more=1",
    "destination=+&from=%zz%e4&&=;",
    "destination=10.96.0.10:53&destination=x&from=fd00::1",
];
