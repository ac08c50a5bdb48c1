//! What is read of files.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;

use kube_ipvs_core::model::{Protocol, ServiceKey};

use super::directory::{Objects, service};

fn load(files: &[(&str, &str)]) -> (Objects, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Objects::load(folder.path())
}

const CLUSTER: &str = r#"
# A file as `kubectl get -o yaml` and people write them.
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: { name: node-1 }
  status:
    addresses: [{ type: InternalIP, address: 192.0.2.1 }]
- apiVersion: v1
  kind: Node
  metadata: { name: node-2 }
  status: null
---
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: { name: kubernetes }
spec: { cidrs: [10.96.0.0/16, "fd00:96::/112"] }
---
apiVersion: v1
kind: Service
metadata: { name: dns, creationTimestamp: null }
spec:
  clusterIP: 10.96.0.10
  ports: [{ port: 53, protocol: UDP }]
status:
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: dns-1, labels: { kubernetes.io/service-name: dns } }
addressType: IPv4
ports: [{ port: 5353, protocol: UDP }, { port: 5354 }]
endpoints: [{ addresses: [10.244.1.1] }]
---
apiVersion: v1
kind: ConfigMap
metadata: { name: other }
data: { a: b }
---
# Of the same name, but another's.
apiVersion: serving.knative.dev/v1
kind: Service
metadata: { name: knative }
spec: { clusterIP: 10.96.0.99, template: 7 }
"#;

#[test]
fn a_file_may_hold_a_whole_cluster() {
    let (objects, problems) = load(&[("cluster.yaml", CLUSTER)]);
    // The second port of the slice has the first one's name, which is none, but not its protocol.
    assert_eq!(problems, [""; 0]);
    assert_eq!(objects.service_names(), ["dns"]);
    assert_eq!(objects.service("dns").ports[0].protocol, Protocol::Udp);
    assert_eq!(objects.node.unwrap().internal_ips.len(), 1);
    assert_eq!(objects.cidrs.len(), 1);
    let slice = objects.slices.values().next().unwrap();
    assert_eq!(slice.service, ServiceKey::new("default", "dns"));
    let ports: Vec<_> = slice.ports.iter().map(|p| (&*p.name, p.protocol, p.port)).collect();
    assert_eq!(ports, [("", Protocol::Udp, 5353), ("", Protocol::Tcp, 5354)]);
}

#[test]
fn json_and_typed_lists_are_read() {
    let list = r#"{ "kind": "ServiceList", "apiVersion": "v1", "metadata": {}, "items": [
        { "metadata": { "name": "a", "namespace": "default" }, "spec": { "clusterIP": "10.96.0.1" } },
        { "metadata": { "name": "b", "namespace": "default" }, "spec": { "clusterIP": "10.96.0.2" } }
    ] }"#;
    let single = r#"{ "kind": "Service", "apiVersion": "v1",
        "metadata": { "name": "c" }, "spec": { "clusterIP": "10.96.0.3" } }"#;
    let (objects, problems) = load(&[("list.json", list), ("deep/down/c.json", single)]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(objects.service_names(), ["a", "b", "c"]);
}

#[test]
fn other_files_and_hidden_ones_are_not_read() {
    let (web, broken) = (service("web", "10.96.0.1"), "}{");
    let (objects, problems) = load(&[
        ("web.yml", &web),
        ("web.yaml~", broken),
        (".web.yaml.swp", broken),
        (".hidden/x.yaml", broken),
        ("README.md", broken),
        ("empty.yaml", "# nothing\n"),
    ]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(objects.service_names(), ["web"]);
}

#[test]
fn a_broken_file_is_reported_with_document_and_field() {
    let web = service("web", "10.96.0.1");
    let field = format!("{web}---\n{}", service("x", "10.96.0.2").replace("80", "[]"));
    let syntax = format!("---\n{web}---\n# two\n---\nkind: {{\n");
    let (objects, problems) = load(&[
        ("web.yaml", &web),
        ("field.yaml", &field),
        ("syntax.yaml", &syntax),
        ("kind.yaml", "hello"),
        ("version.yaml", "kind: Service\nmetadata: { name: x }\n"),
        ("name.yaml", "apiVersion: v1\nkind: Service\nmetadata: {}\n"),
        ("items.yaml", "apiVersion: v1\nkind: List\nitems: 7\n"),
        ("broken.json", "{ \"kind\": "),
    ]);
    assert_eq!(objects.service_names(), ["web"]);
    let told = |parts: &[&str]| {
        let is_told = problems.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_told, "{parts:?} in {problems:#?}");
    };
    assert_eq!(problems.len(), 7, "{problems:#?}");
    told(&["field.yaml", "document 2", "Service x", "spec.ports[0].port"]);
    told(&["syntax.yaml", "document 3"]);
    told(&["kind.yaml", "document 1", "kind: missing"]);
    told(&["version.yaml", "Service x", "apiVersion: missing"]);
    told(&["name.yaml", "metadata.name: missing"]);
    told(&["items.yaml", "items: not a list"]);
    told(&["broken.json", "document 1"]);
    assert!(problems.iter().all(|line| !line.contains('\n')), "one line each: {problems:#?}");
}

#[test]
fn an_invalid_field_affects_itself_alone() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec:\n  \
                clusterIP: 10.96.0.1\n  externalIPs: [127.0.0.1, 198.51.100.1, nonsense]\n  \
                ports: [{ name: a, port: 80 }, { name: b, port: 70000 }, { name: a, port: 81 }]\n";
    let (objects, problems) = load(&[("web.yaml", text)]);
    let service = objects.service("web");
    assert_eq!(service.ports.len(), 1);
    assert_eq!(service.external_ips.len(), 1);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems.iter().all(|line| line.contains("Service default/web: spec.")));
}

#[test]
fn host_local_addresses_are_rejected_in_all_fields() {
    const MEANT_ELSEWHERE: [&str; 13] = [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "169.254.020.010",
        "fe80::1",
        "febf::1",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "255.255.255.255",
    ];
    let (ours, theirs) = ("198.51.100.1", "2001:db8::1");
    for ip in MEANT_ELSEWHERE {
        let of_slice = |name: &str, kind: &str, good: &str| {
            format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{ name: {name}, labels: {{ kubernetes.io/service-name: web }} }}\n\
                 addressType: {kind}\nports: [{{ name: http, port: 8080 }}]\n\
                 endpoints: [{{ addresses: ['{ip}'] }}, {{ addresses: ['{good}'] }}]\n"
            )
        };
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\nspec:\n  \
             clusterIP: '{ip}'\n  clusterIPs: ['{ip}', '{ours}']\n  \
             externalIPs: ['{ip}', '{ours}', '{theirs}']\n  \
             ports: [{{ name: http, port: 80 }}]\n\
             status: {{ loadBalancer: {{ ingress: [{{ ip: '{ip}' }}, {{ ip: '{theirs}' }}] }} }}\n"
        ) + &of_slice("web-4", "IPv4", ours)
            + &of_slice("web-6", "IPv6", theirs);
        let (objects, problems) = load(&[("web.yaml", &text)]);
        let service = objects.service("web");
        let texts = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&service.cluster_ips), [ours], "{ip}");
        assert_eq!(texts(&service.external_ips), [ours, theirs], "{ip}");
        assert_eq!(texts(&service.load_balancer_ips), [theirs], "{ip}");
        let endpoints: Vec<_> =
            objects.slices.values().flat_map(|slice| &slice.endpoints).collect();
        let endpoints: Vec<_> = endpoints.iter().map(|it| it.address.to_string()).collect();
        assert_eq!(endpoints, [ours, theirs], "{ip}");
        assert!(problems.iter().any(|line| line.contains("which cannot be balanced")), "{ip}");
    }
}

#[test]
fn invalid_source_ranges_admit_no_client() {
    let text = |ranges: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\n\
             spec: {{ clusterIP: 10.96.0.1, loadBalancerSourceRanges: {ranges} }}\n"
        )
    };
    let ranges = |listed: &str| {
        let (objects, _) = load(&[("web.yaml", &text(listed))]);
        let ranges = &objects.service("web").source_ranges;
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(ranges("[]"), [""; 0]);
    assert_eq!(ranges("[' 192.0.2.7/24 ']"), ["192.0.2.0/24"]);
    assert_eq!(ranges("[nonsense]"), ["255.255.255.255/32", "::/128"]);
    assert_eq!(ranges("[192.0.2.0/24, 'fd00::/900']"), ["192.0.2.0/24", "::/128"]);
}

#[test]
fn the_last_of_two_files_with_one_object_counts() {
    let (first, second) = (service("web", "10.96.0.1"), service("web", "10.96.0.2"));
    let (objects, problems) = load(&[("b.yaml", &second), ("a.yaml", &first)]);
    assert_eq!(objects.service("web").cluster_ips[0].to_string(), "10.96.0.2");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("b.yaml: Service default/web is also in"), "{problems:#?}");
    let (objects, problems) = load(&[("a.yaml", &format!("{first}---\n{second}"))]);
    assert_eq!(objects.service("web").cluster_ips[0].to_string(), "10.96.0.2");
    assert!(problems[0].contains("document 2 (Service default/web)"), "{problems:#?}");
}

#[test]
fn a_file_may_hold_many_documents() {
    let mut text = String::new();
    for number in 0..3_000 {
        let ip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
        write!(text, "---\n{}", service(&format!("s{number}"), &ip)).unwrap();
    }
    let (objects, problems) = load(&[("all.yaml", &text)]);
    assert_eq!(problems, [""; 0]);
    assert_eq!(objects.services.len(), 3_000);
}

#[test]
fn links_that_lead_in_a_circle_end() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        symlink(folder.path(), folder.path().join(name).join("up")).unwrap();
    }
    fs::write(folder.path().join("a/web.yaml"), service("web", "10.96.0.1")).unwrap();
    let (objects, problems) = Objects::load(folder.path());
    assert_eq!(problems, [""; 0]);
    assert_eq!(objects.service_names(), ["web"]);
}
