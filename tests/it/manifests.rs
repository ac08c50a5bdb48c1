//! The manifests under `manifests/` fit the program: its flags, its configuration, its rights.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use kube_ipvs::agent::api::ServiceTraffic;
use kube_ipvs::agent::metrics::{Metrics, NodeReadings, encode_node, encode_traffic};
use kube_ipvs::cli::{Cli, Command};
use kube_ipvs::config::{Config, SharedFlags, SourceConfig, resolve};
use kube_ipvs::kernel::conntrack::ConntrackUse;
use kube_ipvs::kernel::nft::{PacketCount, PacketReason};
use kube_ipvs::source::kubernetes::{ApiRequest, WatchStep};
use kube_ipvs::source::manifests;
use kube_ipvs_core::model::{Family, ServiceKey};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
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

/// The objects of a kind in `manifests/base`.
fn base(kind: &str) -> Vec<Value> {
    let all = files(&root().join("base")).into_iter().flat_map(|path| documents(&path));
    all.filter(|object| object["kind"] == kind).collect()
}

fn only(kind: &str) -> Value {
    let mut objects = base(kind);
    assert_eq!(objects.len(), 1, "{kind}");
    objects.remove(0)
}

/// The base's DaemonSet, and that of each overlay.
fn daemon_sets() -> Vec<(&'static str, Value)> {
    let overlaid = |overlay| (overlay, overlaid(overlay, "DaemonSet"));
    vec![("base", only("DaemonSet")), overlaid("kubeadm"), overlaid("metrics")]
}

/// An object of the base with an overlay's patches.
fn overlaid(overlay: &str, kind: &str) -> Value {
    let path = root().join("overlays").join(overlay).join("kustomization.yaml");
    let mut object = only(kind);
    for patch in documents(&path)[0]["patches"].as_array().unwrap() {
        assert!(
            !base(patch["target"]["kind"].as_str().unwrap()).is_empty(),
            "{overlay}: a patch of nothing"
        );
        if patch["target"]["kind"] != kind {
            continue;
        }
        let steps: Vec<Value> = serde_saphyr::from_str(patch["patch"].as_str().unwrap()).unwrap();
        for step in steps {
            let path = step["path"].as_str().unwrap();
            let value = step["value"].clone();
            let place = path.strip_suffix("/-").unwrap_or(path);
            let found = object.pointer_mut(place).unwrap_or_else(|| panic!("no {path}"));
            match step["op"].as_str().unwrap() {
                "replace" => *found = value,
                "add" => found.as_array_mut().unwrap().push(value),
                other => panic!("{overlay}: {other}"),
            }
        }
    }
    object
}

fn pod(daemon_set: &Value) -> &Value {
    &daemon_set["spec"]["template"]["spec"]
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

fn read(args: &Value) -> Cli {
    let words = std::iter::once("kube-ipvs").chain(texts(args));
    Cli::read(words.map(OsString::from)).unwrap_or_else(|notice| panic!("{args}: {notice:?}"))
}

/// The configuration of the base's ConfigMap.
fn config() -> Config {
    config_of(&only("ConfigMap"))
}

fn config_of(map: &Value) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    fs::write(&path, map["data"]["config.conf"].as_str().unwrap()).unwrap();
    let flags =
        SharedFlags { config: Some(path), node_name: Some("n".to_owned()), ..Default::default() };
    resolve(&flags).unwrap()
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
    // The file that it names is another key of the same ConfigMap.
    let SourceConfig::Kubernetes { kubeconfig: Some(kubeconfig), .. } = config.source else {
        panic!("in-cluster configuration leads through the agent's own work");
    };
    let daemon_set = only("DaemonSet");
    let mount = &pod(&daemon_set)["containers"][0]["volumeMounts"][0]["mountPath"];
    assert_eq!(kubeconfig.parent(), Some(Path::new(mount.as_str().unwrap())));
    let key = kubeconfig.file_name().unwrap().to_str().unwrap();
    let text = only("ConfigMap")["data"][key].as_str().unwrap().to_owned();
    let kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    assert!(kubeconfig["clusters"][0]["cluster"]["server"].is_string());
}

#[test]
fn metrics_are_scraped_at_the_served_address() {
    let config = config_of(&overlaid("metrics", "ConfigMap"));
    let address = config.metrics_address.unwrap();
    assert!(address.ip().is_unspecified());
    // But for that it is the base's.
    let base = Config { metrics_address: config.metrics_address, ..self::config() };
    assert_eq!(config, base);
    let agent = pod(&overlaid("metrics", "DaemonSet"))["containers"][0].clone();
    let port = &agent["ports"][1];
    assert_eq!(
        (&port["name"], &port["containerPort"]),
        (&json!("metrics"), &json!(address.port()))
    );
    let directory = root().join("overlays/metrics");
    let service = documents(&directory.join("service.yaml")).remove(0);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "metrics");
    let monitor = documents(&directory.join("service-monitor.yaml")).remove(0);
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
}

/// `/metrics` of an agent to which everything has happened once.
fn metrics() -> String {
    let metrics = Metrics::new().unwrap();
    // Those that have no samples before something happens.
    metrics.source("Service", WatchStep::List, SystemTime::now());
    metrics.settings.with_label_values(&["net.ipv4.ip_forward", "refused"]).inc();
    let services = vec![(ServiceKey::new("default", "web"), Default::default())];
    let traffic = encode_traffic(&ServiceTraffic { services, left_out: 0 }).unwrap();
    for method in [Method::GET, Method::POST] {
        let (host, status) = ("192.0.2.1:6443", Some(StatusCode::OK));
        metrics.api_request(&ApiRequest { method: &method, host, status, took: Duration::ZERO });
    }
    let packets =
        PacketReason::ALL.map(|reason| PacketCount { family: Family::V4, reason, packets: 1 });
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
fn every_metric_is_documented() {
    let document = include_str!("../../docs/metrics.md");
    let text = metrics();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !name.starts_with("process_")).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
    }
    for word in document.split('`').skip(1).step_by(2) {
        let is_ours =
            ["kube_ipvs_", "kubeproxy_", "rest_client_"].iter().any(|it| word.starts_with(it));
        assert!(!is_ours || names.contains(&word), "docs/metrics.md: {word}");
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
        let content = fs::read_to_string(root().join("overlays/metrics").join(file)).unwrap();
        let words = content.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = ["kube_ipvs_", "kubeproxy_", "process_", "rest_client_"];
        let names: Vec<&str> =
            words.filter(|word| ours.iter().any(|start| word.starts_with(start))).collect();
        assert!(names.len() > 5, "{file}");
        for name in names {
            assert!(exists(name), "{file}: {name}");
        }
    }
    let dashboard = root().join("overlays/metrics/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    assert!(!dashboard["panels"].as_array().unwrap().is_empty());
}

#[test]
fn every_overlay_lists_all_of_its_files() {
    for overlay in ["kubeadm", "metrics"] {
        let directory = root().join("overlays").join(overlay);
        let kustomization = documents(&directory.join("kustomization.yaml")).remove(0);
        let mut listed = texts(&kustomization["resources"]);
        listed.retain(|file| *file != "../../base");
        listed.extend(texts(&kustomization["configMapGenerator"][0]["files"]));
        listed.push("kustomization.yaml");
        listed.sort_unstable();
        let mut present: Vec<String> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        present.sort_unstable();
        assert_eq!(present, listed, "{overlay}");
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
            assert_eq!(request["port"], "healthz", "{name}");
        }
    }
}

#[test]
fn rbac_allows_reading_four_kinds_and_writing_events() {
    let role = only("ClusterRole");
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
    let binding = only("ClusterRoleBinding");
    let account = &only("ServiceAccount")["metadata"]["name"];
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(&binding["subjects"][0]["name"], account);
    assert_eq!(&pod(&only("DaemonSet"))["serviceAccountName"], account);
}
