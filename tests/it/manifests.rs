//! The manifests under `manifests/` fit the program: its flags, its configuration, its rights.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use kube_ipvs::agent::LONGEST_END;
use kube_ipvs::agent::api::ServiceTraffic;
use kube_ipvs::agent::metrics::{Metrics, NodeReadings, encode_node, encode_traffic};
use kube_ipvs::cli::{Cli, Command};
use kube_ipvs::config::{Config, SharedFlags, SourceConfig, resolve};
use kube_ipvs::kernel::conntrack::ConntrackUse;
use kube_ipvs::kernel::nft::{PACKET_REASONS, PacketCount};
use kube_ipvs::source::kubernetes::{ApiAccess, ApiRequest, WatchStep};
use kube_ipvs::source::manifests;
use kube_ipvs_core::model::{Family, ServiceKey};
use serde_json::{Value, json};

use crate::kubernetes_types;
use crate::kustomize::{self, Overlay, documents};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

/// Every YAML file under a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found
}

/// The object of a kind in `manifests/base`.
fn base(kind: &str) -> Value {
    kustomize::only(&kustomize::build(&root().join("base")), kind).clone()
}

/// An overlay of the base (`../base`), or of another overlay, with components.
pub fn overlay_with(components: &[&str], under: &str) -> Overlay {
    let components: Vec<_> = components.iter().map(|it| format!("../../components/{it}")).collect();
    Overlay::new(&format!("resources: [../{under}]\ncomponents: [{}]", components.join(", ")))
}

/// The same with metrics.
fn with_metrics(under: &str) -> Overlay {
    overlay_with(&["metrics"], under)
}

/// The same for monitors of kube-proxy.
fn with_label(under: &str) -> Overlay {
    overlay_with(&["kube-proxy-label"], under)
}

/// An overlay as an operator writes it: the API server, an image of another registry, other nodes.
const OWN: &str = r"
resources: [../../base]
components: [../../components/metrics]
configMapGenerator:
  - name: kube-ipvs-api-server
    namespace: kube-system
    behavior: merge
    literals: [KUBERNETES_SERVICE_HOST=192.0.2.10]
images:
  - name: kube-ipvs
    newName: registry.example:5000/kube-ipvs
patches:
  - target: { kind: DaemonSet, name: kube-ipvs }
    patch: |-
      - op: add
        path: /spec/template/spec/nodeSelector/kube-ipvs.io~1proxy
        value: 'true'
";

/// What every way to put the manifests together makes.
pub fn builds() -> Vec<(&'static str, Vec<Value>)> {
    let built = |overlay: Overlay| kustomize::build(&overlay.directory());
    vec![
        ("base", kustomize::build(&root().join("base"))),
        ("kubeadm", kustomize::build(&root().join("overlays/kubeadm"))),
        ("metrics", built(with_metrics("../base"))),
        ("kubeadm with metrics", built(with_metrics("kubeadm"))),
        ("kube-proxy's label", built(with_label("../base"))),
        ("kubeadm with kube-proxy's label", built(with_label("kubeadm"))),
        ("own", built(Overlay::new(OWN))),
    ]
}

/// The DaemonSet of each.
fn daemon_sets() -> Vec<(&'static str, Value)> {
    let daemon_set = |objects: Vec<Value>| kustomize::only(&objects, "DaemonSet").clone();
    builds().into_iter().map(|(name, objects)| (name, daemon_set(objects))).collect()
}

fn pod(daemon_set: &Value) -> &Value {
    &daemon_set["spec"]["template"]["spec"]
}

pub fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

fn read(args: &Value) -> Cli {
    let words = std::iter::once("kube-ipvs").chain(texts(args));
    Cli::read(words.map(OsString::from)).unwrap_or_else(|notice| panic!("{args}: {notice:?}"))
}

/// The configuration of the base.
fn config() -> Config {
    let objects = kustomize::build(&root().join("base"));
    let is_it = |object: &&Value| object["data"]["config.conf"].is_string();
    let map = objects.iter().find(is_it).unwrap();
    config_of(map["data"]["config.conf"].as_str().unwrap(), &SharedFlags::default())
}

/// The configuration of an agent with a file of this text, and flags.
pub fn config_of(text: &str, flags: &SharedFlags) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    fs::write(&path, text).unwrap();
    let node_name = Some("n".to_owned());
    resolve(&SharedFlags { config: Some(path), node_name, ..flags.clone() }).unwrap()
}

#[test]
fn every_document_is_an_object() {
    for path in files(&root()) {
        for document in documents(&path) {
            for field in ["apiVersion", "kind"] {
                assert!(document[field].is_string(), "{}: {field}", path.display());
            }
        }
    }
}

#[test]
fn the_base_lists_all_of_its_files() {
    let directory = root().join("base");
    let kustomization = documents(&directory.join("kustomization.yaml")).remove(0);
    let mut listed = texts(&kustomization["resources"]);
    listed.push("kustomization.yaml");
    let mut present: Vec<_> = files(&directory)
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    listed.sort_unstable();
    present.sort_unstable();
    assert_eq!(present, listed);
    let version = &kustomization["images"][0]["newTag"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "the image's tag is the crate's version");
}

#[test]
fn the_demonstration_is_understood_without_a_complaint() {
    let (events, problems) = manifests::load(&root().join("demo"), &"n1".into()).unwrap();
    assert!(!events.is_empty());
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn containers_are_started_with_flags_that_exist() {
    for (name, daemon_set) in daemon_sets() {
        let pod = pod(&daemon_set);
        let init = read(&pod["initContainers"][0]["args"]);
        assert!(
            matches!(init.command, Some(Command::Run(ref flags)) if flags.init_only == Some(true)),
            "{name}"
        );
        let agent = read(&pod["containers"][0]["args"]);
        assert!(matches!(agent.command, Some(Command::Run(_))), "{name}");
        for (cli, container) in [(init, "initContainers"), (agent, "containers")] {
            let mount = &pod[container][0]["volumeMounts"][0]["mountPath"];
            let config = cli.shared.config.unwrap();
            assert_eq!(config, Path::new(mount.as_str().unwrap()).join("config.conf"), "{name}");
        }
    }
}

#[test]
fn the_configuration_is_taken_without_a_warning() {
    let config = config();
    assert_eq!(config.warnings, Vec::<String>::new());
    let in_cluster = SourceConfig::Kubernetes(ApiAccess::default());
    assert_eq!(config.source, in_cluster);
}

/// The in-cluster configuration names the `kubernetes` Service, which is the agent's own work.
#[test]
fn both_containers_are_told_the_api_servers_own_address() {
    let objects = kustomize::build(&root().join("base"));
    let api_server = objects.iter().find(|it| it["metadata"]["name"] == "kube-ipvs-api-server");
    let keys: Vec<_> = api_server.unwrap()["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]);
    let pod = pod(kustomize::only(&objects, "DaemonSet"));
    for container in ["initContainers", "containers"] {
        let from = json!([{"configMapRef": {"name": "kube-ipvs-api-server"}}]);
        assert_eq!(pod[container][0]["envFrom"], from);
    }
}

#[test]
fn kubectl_makes_the_same_of_the_manifests() {
    let labelled = ["../base", "kubeadm"].map(with_label);
    let own = [with_metrics("../base"), with_metrics("kubeadm"), Overlay::new(OWN)];
    let present = ["base", "overlays/kubeadm"].map(|name| root().join(name));
    for directory in own.iter().chain(&labelled).map(Overlay::directory).chain(present) {
        let Some(theirs) = kustomize::by_kubectl(&directory) else { return };
        let ours = kustomize::build(&directory);
        let sorted = |objects: Vec<Value>| {
            let mut texts: Vec<_> = objects.iter().map(Value::to_string).collect();
            texts.sort_unstable();
            texts
        };
        assert_eq!(sorted(ours), sorted(theirs), "{}", directory.display());
    }
}

#[test]
fn the_rights_follow_the_account_to_another_namespace() {
    let components = "components: [../../components/metrics]";
    let overlay = Overlay::new(&format!("namespace: other\nresources: [../../base]\n{components}"));
    let Some(objects) = kustomize::by_kubectl(&overlay.directory()) else { return };
    let namespaced = objects.iter().filter(|it| !it["metadata"]["namespace"].is_null());
    assert!(namespaced.clone().all(|it| it["metadata"]["namespace"] == "other"));
    assert!(namespaced.count() > 5);
    let subject = &kustomize::only(&objects, "ClusterRoleBinding")["subjects"][0];
    assert_eq!(subject["namespace"], "other");
}

#[test]
fn objects_fit_the_schemas_of_kubernetes() {
    for (name, objects) in builds() {
        for object in objects {
            kubernetes_types::check(&object).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        }
    }
}

#[test]
fn a_pod_may_end_for_longer_than_the_agent_needs() {
    for (name, daemon_set) in daemon_sets() {
        let grace = pod(&daemon_set)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > LONGEST_END.as_secs() + 1, "{name}: {grace}");
    }
}

#[test]
fn metrics_are_scraped_at_the_served_address() {
    let with_metrics = builds().into_iter().filter(|(name, _)| !["base", "kubeadm"].contains(name));
    for (name, objects) in with_metrics {
        let agent = &pod(kustomize::only(&objects, "DaemonSet"))["containers"][0];
        let flags = read(&agent["args"]).shared;
        // A file of kube-proxy's that has another address.
        let text = "{apiVersion: kubeproxy.config.k8s.io/v1alpha1, kind: KubeProxyConfiguration, \
                    metricsBindAddress: ''}";
        let address = config_of(text, &flags).metrics_address.unwrap();
        assert!(address.ip().is_unspecified(), "{name}");
        let port = &agent["ports"][1];
        assert_eq!(port["name"], "metrics", "{name}");
        assert_eq!(port["containerPort"], address.port(), "{name}");
        if name.ends_with("kube-proxy's label") {
            continue;
        }
        let service = kustomize::only(&objects, "Service");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics", "{name}");
        let monitor = &kustomize::only(&objects, "ServiceMonitor")["spec"];
        assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"], "{name}");
        let labels = &service["metadata"]["labels"];
        assert_eq!(&monitor["selector"]["matchLabels"], labels, "{name}");
    }
}

/// `/metrics` of an agent to which everything has happened once.
pub fn metrics() -> String {
    let metrics = Metrics::new().unwrap();
    // Those that have no samples before something happens.
    metrics.api_server.watched("Service", WatchStep::List, SystemTime::now());
    metrics.settings.with_label_values(&["net.ipv4.ip_forward", "refused"]).inc();
    let services = vec![(ServiceKey::new("default", "web"), Default::default())];
    let traffic = encode_traffic(&ServiceTraffic { services, left_out: 0 }).unwrap();
    for method in [Method::GET, Method::POST] {
        let (host, status) = ("192.0.2.1:6443", Some(StatusCode::OK));
        metrics.api_server.requested(&ApiRequest {
            method: &method,
            host,
            status,
            took: Duration::ZERO,
        });
    }
    let packets =
        PACKET_REASONS.map(|(reason, _)| PacketCount { family: Family::V4, reason, packets: 1 });
    let conntrack = Some(ConntrackUse { entries: 1, limit: 2 });
    let node = NodeReadings { conntrack, packets: Some(packets.into()) };
    metrics.encode().unwrap() + &traffic + &encode_node(&node).unwrap()
}

/// What kubernetes-mixin asks of kube-proxy (`dashboards/proxy.libsonnet`), as metric and labels. Its
/// alert and `up` are about the scrape itself; `go_goroutines` has no meaning here.
const OF_MIXIN: [(&str, &str); 10] = [
    ("kubeproxy_sync_proxy_rules_duration_seconds_count", "ip_family=\"IPv4\""),
    ("kubeproxy_sync_proxy_rules_duration_seconds_bucket", "le=\"0.001\""),
    ("kubeproxy_network_programming_duration_seconds_count", "ip_family=\"IPv4\""),
    ("kubeproxy_network_programming_duration_seconds_bucket", "le=\"0.25\""),
    ("rest_client_requests_total", "code=\"200\""),
    ("rest_client_requests_total", "method=\"GET\""),
    ("rest_client_request_duration_seconds_bucket", "verb=\"POST\""),
    ("rest_client_request_duration_seconds_bucket", "verb=\"GET\""),
    ("process_resident_memory_bytes", ""),
    ("process_cpu_seconds_total", ""),
];

#[test]
fn the_dashboard_of_kubernetes_mixin_shows_this_proxy() {
    let text = metrics();
    for (name, label) in OF_MIXIN {
        let is_series = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        };
        assert!(text.lines().any(is_series), "{name}{{{label}}}");
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let text = metrics();
    let exists = |name: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is = |name: &str, kind: &str| text.contains(&format!("# TYPE {name} {kind}"));
        is(name, "") && !is(name, "histogram") || stem.is_some_and(|stem| is(stem, "histogram"))
    };
    for file in ["dashboard.json", "alerts.yaml"] {
        let content = fs::read_to_string(root().join("components/metrics").join(file)).unwrap();
        let words = content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = ["kube_ipvs_", "kubeproxy_", "process_", "rest_client_"];
        let names: Vec<&str> =
            words.filter(|word| ours.iter().any(|start| word.starts_with(start))).collect();
        assert!(names.len() > 5, "{file}");
        for name in names {
            assert!(exists(name), "{file}: {name}");
        }
    }
    let dashboard = root().join("components/metrics/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    assert!(!dashboard["panels"].as_array().unwrap().is_empty());
}

/// kube-prometheus finds kube-proxy by this label (`kubernetesControlPlane-podMonitorKubeProxy`), and
/// names the job by its value.
#[test]
fn monitors_of_kube_proxy_find_the_labelled_pods() {
    let labelled: Vec<_> = daemon_sets();
    let labelled = labelled.iter().filter(|(name, _)| name.ends_with("kube-proxy's label"));
    for (name, daemon_set) in labelled {
        let labels = &daemon_set["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels["k8s-app"], "kube-proxy", "{name}");
        let selected = daemon_set["spec"]["selector"]["matchLabels"].as_object().unwrap();
        assert!(selected.iter().all(|(key, value)| labels[key] == *value), "{name}");
        assert_eq!(selected.get("k8s-app"), None, "{name}: kube-proxy's own pods are not ours");
    }
}

#[test]
fn the_agent_may_administer_the_network_and_nothing_else() {
    for (name, daemon_set) in daemon_sets() {
        let pod = pod(&daemon_set);
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_ne!(security["privileged"], json!(true), "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], json!(false), "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], json!(true), "{name}");
            let capabilities = json!({ "drop": ["ALL"], "add": ["NET_ADMIN"] });
            assert_eq!(security["capabilities"], capabilities, "{name}");
        }
        // Of the node's files, the agent has the directory of the device tun alone.
        for volume in pod["volumes"].as_array().unwrap() {
            let is_tun = volume["hostPath"]["path"] == "/dev/net";
            assert!(volume["configMap"].is_object() || is_tun, "{name}: {volume}");
        }
    }
}

#[test]
fn the_pod_depends_on_nothing_that_it_provides() {
    for (name, daemon_set) in daemon_sets() {
        let pod = pod(&daemon_set);
        assert_eq!(pod["hostNetwork"], json!(true), "{name}");
        // The API server's name is looked up at the node's resolver, not at a Service's address.
        assert_eq!(pod["dnsPolicy"], "Default", "{name}");
        assert_eq!(pod["priorityClassName"], "system-node-critical", "{name}");
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]), "{name}");
    }
}

#[test]
fn probes_ask_where_health_is_answered() {
    let port = config().health_address.unwrap().port();
    for (name, daemon_set) in daemon_sets() {
        let agent = &pod(&daemon_set)["containers"][0];
        assert_eq!(agent["ports"][0]["name"], "healthz", "{name}");
        assert_eq!(agent["ports"][0]["containerPort"], port, "{name}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let request = &agent[probe]["httpGet"];
            assert_eq!(request["path"], path, "{name}");
            assert_eq!(request["port"], port, "{name}");
        }
    }
}

#[test]
fn rbac_allows_reading_four_kinds_and_writing_events() {
    let role = base("ClusterRole");
    let mut resources = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let writes = texts(&rule["resources"]) == ["events"];
        let verbs = if writes { ["create", "patch"] } else { ["list", "watch"] };
        assert_eq!(texts(&rule["verbs"]), verbs, "{rule}");
        for group in texts(&rule["apiGroups"]) {
            resources
                .extend(texts(&rule["resources"]).iter().map(|name| format!("{group}/{name}")));
        }
    }
    resources.sort_unstable();
    assert_eq!(
        resources,
        [
            "/nodes",
            "/services",
            "discovery.k8s.io/endpointslices",
            "events.k8s.io/events",
            "networking.k8s.io/servicecidrs"
        ]
    );
    let binding = base("ClusterRoleBinding");
    let account = &base("ServiceAccount")["metadata"]["name"];
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(&binding["subjects"][0]["name"], account);
    assert_eq!(&pod(&base("DaemonSet"))["serviceAccountName"], account);
}
