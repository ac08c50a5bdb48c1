//! The steps of `docs/migrate-from-kube-proxy.md`, run by kubectl against the stand-in API server.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use kube_ipvs::cli::{Cli, Command as CliCommand};
use kube_ipvs::config::SharedFlags;
use kube_ipvs::source::manifests;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{ApiServer, objects};
use crate::documents::{Block, Document};
use crate::kubectl_plugin::Agent;
use crate::kustomize::{Overlay, has_kubectl};
use crate::manifests::config_of;

const PAGE: &str = "docs/migrate-from-kube-proxy.md";
const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// kubeadm's, without what this program does not read.
const CONFIG: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
                      mode: ipvs\nclusterCIDR: 10.244.0.0/16";

fn blocks(mark: &str) -> Vec<Block> {
    let blocks = Document::of(PAGE).blocks().into_iter();
    blocks.filter(|block| block.mark == mark).collect()
}

/// A cluster of kubeadm, and a directory with a kubeconfig and the manifests.
struct Cluster {
    server: ApiServer,
    overlay: Overlay,
    home: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::start();
        for (index, name) in NODES.into_iter().enumerate() {
            let mut node = objects::node(name, &format!("192.0.2.{}", index + 1));
            node["metadata"]["labels"]["kubernetes.io/os"] = "linux".into();
            server.put(node);
        }
        server.put(objects::service("web", "10.96.0.80"));
        server.put(objects::slice("web-1", "web", &["10.244.1.5"]));
        server.put(objects::service_cidr("kubernetes", "10.96.0.0/12"));
        server.put(daemon_set());
        server.put(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "kube-proxy", "namespace": "kube-system" },
            "data": { "config.conf": CONFIG, "kubeconfig.conf": "kind: Config\n" },
        }));
        let [overlay] = &blocks("yaml kustomization")[..] else { panic!("not one overlay") };
        let overlay = Overlay::new(&overlay.text);
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("kubeconfig"), server.kubeconfig()).unwrap();
        symlink(env!("CARGO_BIN_EXE_kube-ipvs"), home.path().join("kubectl-ipvs")).unwrap();
        Self { server, overlay, home }
    }

    /// Runs the blocks of a step. After each, every node has one proxy. Returns what they print.
    fn take_step(&self, heading: &str) -> String {
        let is_it = |block: &Block| block.heading.starts_with(heading);
        let blocks: Vec<_> = blocks("sh").into_iter().filter(is_it).collect();
        assert!(!blocks.is_empty(), "{heading}: nothing to run");
        let run = |block: &Block| {
            let told = self.run(block);
            for node in NODES {
                assert_eq!(self.proxies_on(node).len(), 1, "{}: on {node}", block.place);
            }
            told
        };
        blocks.iter().map(run).collect()
    }

    fn run(&self, block: &Block) -> String {
        let script = format!("set -eu\n{}\necho \"POD=${{POD-}}\"\n", block.text);
        let path = format!("{}:{}", self.home.path().display(), env::var("PATH").unwrap());
        let done = Command::new("bash")
            .args(["-c", &script])
            .current_dir(self.overlay.root())
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("NODE", "n1")
            .env("IMAGE", "registry.example/kube-ipvs:0.1.0")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&done.stderr);
        let requests = self.server.requests().join("\n");
        assert!(done.status.success(), "{}: {told}{complaint}\n{requests}", block.place);
        told
    }

    /// `config.conf` of the ConfigMap, whose other key stays.
    fn config(&self) -> String {
        let all = self.server.objects("/api/v1/configmaps");
        let map = all.iter().find(|it| it["metadata"]["name"] == "kube-proxy").unwrap();
        assert_eq!(map["data"]["kubeconfig.conf"], "kind: Config\n");
        map["data"]["config.conf"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.overlay.root().join(name)).unwrap()
    }

    fn daemon_set(&self, name: &str) -> Value {
        let all = self.server.objects(DAEMON_SETS);
        let found = all.into_iter().find(|it| it["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no DaemonSet {name}"))
    }

    /// The DaemonSets that have a pod on a node, as their controller decides.
    fn proxies_on(&self, node: &str) -> Vec<String> {
        let nodes = self.server.objects("/api/v1/nodes");
        let node = nodes.iter().find(|it| it["metadata"]["name"] == node).unwrap();
        let labels = &node["metadata"]["labels"];
        let all = self.server.objects(DAEMON_SETS);
        let chosen = all.iter().filter(|it| selects(&it["spec"]["template"]["spec"], labels));
        chosen.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Makes the pod of a node, which is ready, and whose agent answers.
    fn start_agent(&self, node: &str, agent: &Agent) {
        let name = format!("kube-ipvs-{node}");
        self.server.forward(&format!("kube-system/{name}"), agent.address);
        self.server.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "kube-system",
                "labels": { "app.kubernetes.io/name": "kube-ipvs" },
            },
            "spec": { "nodeName": node, "containers": [] },
            "status": {
                "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }));
    }

    /// Tells how many pods of the DaemonSet are ready, as its controller does.
    fn count_ready(&self, name: &str, count: usize) {
        let mut daemon_set = self.daemon_set(name);
        daemon_set["status"] = json!({ "numberReady": count });
        self.server.put(daemon_set);
    }

    fn expect_proxies(&self, expected: [&str; NODES.len()]) {
        assert_eq!(NODES.map(|node| self.proxies_on(node).join(" ")), expected);
    }
}

/// Whether node selector and required affinity let a pod onto a node with these labels.
fn selects(pod: &Value, labels: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut selector = pod["nodeSelector"].as_object().into_iter().flatten();
    let meets = |expression: &Value| {
        let is_set = labels.get(expression["key"].as_str().unwrap()).is_some();
        match expression["operator"].as_str().unwrap() {
            "Exists" => is_set,
            "DoesNotExist" => !is_set,
            other => panic!("{other}"),
        }
    };
    let affinity = &pod["affinity"]["nodeAffinity"];
    let terms = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    selector.all(|(key, value)| labels[key] == *value)
        && (terms.is_null()
            || list(terms).iter().any(|it| list(&it["matchExpressions"]).iter().all(meets)))
}

/// kubeadm's DaemonSet, as far as the steps change it.
fn daemon_set() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {
            "name": "kube-proxy", "namespace": "kube-system",
            "labels": { "k8s-app": "kube-proxy" },
        },
        "spec": {
            "selector": { "matchLabels": { "k8s-app": "kube-proxy" } },
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": {
                "metadata": { "labels": { "k8s-app": "kube-proxy" } },
                "spec": {
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "containers": [{
                        "name": "kube-proxy",
                        "image": "registry.k8s.io/kube-proxy:v1.34.0",
                        "command": [
                            "/usr/local/bin/kube-proxy",
                            "--config=/var/lib/kube-proxy/config.conf",
                            "--hostname-override=$(NODE_NAME)",
                        ],
                    }],
                },
            },
        },
    })
}

#[test]
fn steps_of_the_migration_work_with_kubectl() {
    if !has_kubectl() {
        return;
    }
    let cluster = Cluster::new();
    cluster.take_step("2.");
    let directory = cluster.overlay.root().join("objects");
    let (events, problems) = manifests::load(&directory, &"n1".into()).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    assert!(events.len() > 3, "{events:?}");
    assert_eq!(cluster.file("config.conf"), CONFIG);

    cluster.take_step("3.");
    cluster.expect_proxies(["kube-proxy"; 3]);
    let proxy = cluster.daemon_set("kube-proxy");
    assert_eq!(proxy["spec"]["updateStrategy"], json!({ "type": "OnDelete" }));
    let containers = "/spec/template/spec/containers";
    assert_eq!(proxy.pointer(containers), daemon_set().pointer(containers));

    let agents = NODES.map(|node| Agent::start(node, &["10.244.1.5"]));
    cluster.start_agent("n1", &agents[0]);
    let told = cluster.take_step("4.");
    assert!(told.contains("POD=pod/kube-ipvs-n1\n"), "{told}");
    cluster.expect_proxies(["kube-ipvs", "kube-proxy", "kube-proxy"]);
    cluster.take_step("The way back");
    cluster.expect_proxies(["kube-proxy"; 3]);

    cluster.start_agent("n2", &agents[1]);
    cluster.start_agent("n3", &agents[2]);
    cluster.count_ready("kube-ipvs", NODES.len());
    let told = cluster.take_step("6.");
    assert!(told.contains("3 nodes are alike and in their desired state\n"), "{told}");
    cluster.expect_proxies(["kube-ipvs"; 3]);
    let config = config_of(&cluster.config(), &SharedFlags::default());
    assert!(config.remove_kube_proxy && config.settings.canary);
    assert_eq!(config.warnings, Vec::<String>::new());
    // A node that is new.
    cluster.server.put(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "n4", "labels": { "kubernetes.io/os": "linux" } },
    }));
    assert_eq!(cluster.proxies_on("n4"), ["kube-ipvs"]);

    cluster.take_step("After step 6");
    cluster.expect_proxies(["kube-ipvs"; 3]);
    assert_eq!(cluster.proxies_on("n4"), ["kube-ipvs"]);
    let now = cluster.daemon_set("kube-proxy");
    for part in ["/spec/template", "/spec/updateStrategy"] {
        assert_eq!(now.pointer(part), proxy.pointer(part));
    }
    assert_eq!(cluster.config(), CONFIG);
    cluster.take_step("The way back");
    cluster.expect_proxies(["kube-proxy", "kube-ipvs", "kube-ipvs"]);
}

#[test]
fn one_edit_makes_kube_proxys_daemon_set_run_this_program() {
    if !has_kubectl() {
        return;
    }
    let cluster = Cluster::new();
    cluster.take_step("Alternative: one edit");
    let edited = cluster.daemon_set("kube-proxy");
    let container = &edited["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example/kube-ipvs:0.1.0");
    let words = container["command"].as_array().unwrap().iter();
    let words: Vec<_> = words.map(|word| OsString::from(word.as_str().unwrap())).collect();
    assert_eq!(words[0], "/kube-ipvs");
    let cli = Cli::read(words).unwrap();
    assert!(matches!(cli.command, None | Some(CliCommand::Run(_))), "{:?}", cli.command);
    assert_eq!(cli.shared.config.as_deref(), Some(Path::new("/var/lib/kube-proxy/config.conf")));
    assert_eq!(cli.shared.node_name.as_deref(), Some("$(NODE_NAME)"));
}

/// What the page does not have a test for is marked as such.
#[test]
fn every_command_that_changes_the_cluster_is_run() {
    for block in blocks("") {
        for line in block.text.lines().filter(|line| line.contains("kubectl ")) {
            let only_in_a_pod = [" exec ", " debug "].iter().any(|what| line.contains(what));
            assert!(only_in_a_pod, "{}: {line}", block.place);
        }
    }
}
