//! The agent with an API server: `run --kubeconfig`, over TLS, on a real kernel.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use base64::prelude::*;
use kube_ipvs::client::AgentClient;
use kube_ipvs::kernel::conntrack::Conntrack;
use kube_ipvs::kernel::modules::{self, Module, Modules, Presence};
use kube_ipvs_core::canary;
use kube_ipvs_core::model::{Carry, Family, Scheduler};
use kube_ipvs_core::plan::FlowOperation;
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use super::process::{Agent, PATIENCE, node_and_server, until};
use super::{Component, alone, component, output, run, unload};
use crate::api::objects::{service, slice};
use crate::api::{SERVICES, SLICES};

pub(crate) fn components() -> Vec<Component> {
    vec![
        alone("without_the_module", without_the_module),
        alone(
            "modules_are_loaded_beforehand_and_on_demand",
            modules_are_loaded_beforehand_and_on_demand,
        ),
        component("the_agent_follows_an_api_server", the_agent_follows_an_api_server),
        component(
            "the_agent_reaches_the_api_server_that_its_environment_names",
            the_agent_reaches_the_api_server_that_its_environment_names,
        ),
        component("every_line_of_the_log_is_json", every_line_of_the_log_is_json),
        component("doctor_goes_by_the_agents_flags", doctor_goes_by_the_agents_flags),
        component(
            "a_hanging_plugin_does_not_stop_the_agent",
            a_hanging_plugin_does_not_stop_the_agent,
        ),
    ]
}

fn without_the_module() {
    unload("ip_vs");
    let loader = fs::read_to_string("/proc/sys/kernel/modprobe").unwrap();
    fs::write("/proc/sys/kernel/modprobe", "/bin/false").unwrap();
    let directory = tempfile::tempdir().unwrap();
    // The agent has the kernel load modules where it may: here it may not.
    let ended = Command::new("timeout")
        .args(["20", "setpriv", "--bounding-set=-sys_module", env!("CARGO_BIN_EXE_kube-ipvs")])
        .args(["run", "--node-name", "n1", "--manifests"])
        .arg(directory.path())
        .output();
    fs::write("/proc/sys/kernel/modprobe", loader).unwrap();
    let ended = ended.unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let line = told.lines().find(|line| line.starts_with("kube-ipvs: ")).unwrap_or_default();
    assert!(line.contains("ip_vs"), "{told}");
}

/// Longest name of a network device, by which a module is asked for.
const LONGEST_DEVICE: usize = 15;

fn modules_are_loaded_beforehand_and_on_demand() {
    let needed = modules::needed(Scheduler::Rr, &Carry::default());
    let unload_all = || needed.iter().for_each(|module| unload(&module.name));
    let is_running = |module: &Module| Modules::read().unwrap().presence(module);
    unload_all();
    let prepared = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
        .args(["run", "--init-only", "--node-name", "n1"])
        .output()
        .unwrap();
    assert!(prepared.status.success(), "{prepared:?}");
    for module in needed.iter().filter(|module| module.name.len() <= LONGEST_DEVICE) {
        assert_eq!(is_running(module), Presence::Running, "{module:?}");
    }
    unload_all();
    // Before Linux 5.16 the kernel does not find it.
    run("modprobe ip_vs");
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    let directory = tempfile::tempdir().unwrap();
    // As in its container, it may load none by its name.
    let agent = thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            rustix::thread::remove_capability_from_bounding_set(CapabilitySet::SYS_MODULE).unwrap();
            Agent::follow(&directory, &server)
        });
        unprivileged.join().unwrap()
    });
    until_held("loaded", &[("10.96.0.1:80", &["10.244.1.5:8080"])]);
    let udp = FlowOperation {
        frontend: "10.96.0.1:53/udp".parse().unwrap(),
        backend: None,
        carrier: None,
    };
    assert_eq!(Conntrack::open().unwrap().delete(&[udp]).unwrap(), 0);
    for module in &needed {
        assert_eq!(is_running(module), Presence::Running, "{module:?}");
    }
    // Otherwise the modules stay in use until the kernel has cleaned up this namespace.
    drop(agent);
    run("ipvsadm -C");
}

/// Waits until IPVS holds these Services with these real servers and nothing else.
fn until_held(what: &str, services: &[(&str, &[&str])]) {
    let mut expected = BTreeSet::new();
    for (address, backends) in services {
        expected.insert(format!("-A -t {address} -s rr"));
        expected
            .extend(backends.iter().map(|backend| format!("-a -t {address} -r {backend} -m -w 1")));
    }
    let start = Instant::now();
    loop {
        let saved = output("ipvsadm -Sn");
        let held: BTreeSet<String> = saved.lines().map(|line| line.trim().to_owned()).collect();
        if held == expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {held:#?} is not {expected:#?}");
        sleep(Duration::from_millis(20));
    }
}

/// Gives a process the files of a service account, as the kubelet mounts them.
const IN_A_POD: &str = "mount -t tmpfs tmpfs /run && mkdir -p \"$ACCOUNT\" && \
                        cp -r \"$FILES\"/. \"$ACCOUNT\" && exec \"$@\"";

/// With the manifests' configuration, which names no kubeconfig.
fn the_agent_reaches_the_api_server_that_its_environment_names() {
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    let access: Value = serde_json::from_str(&server.kubeconfig()).unwrap();
    let authority = &access["clusters"][0]["cluster"]["certificate-authority-data"];
    let token = access["users"][0]["user"]["token"].as_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let account = directory.path().join("account");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("ca.crt"), BASE64_STANDARD.decode(authority.as_str().unwrap()).unwrap())
        .unwrap();
    fs::write(account.join("token"), token).unwrap();
    fs::write(account.join("namespace"), "kube-system").unwrap();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base/config.yaml");
    let map: Value = serde_saphyr::from_str(&fs::read_to_string(manifests).unwrap()).unwrap();
    let config = directory.path().join("config.conf");
    fs::write(&config, map["data"]["config.conf"].as_str().unwrap()).unwrap();

    let url = server.url();
    let (host, port) = url.trim_start_matches("https://").rsplit_once(':').unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", IN_A_POD, "sh", env!("CARGO_BIN_EXE_kube-ipvs"), "run"])
        .arg("--config")
        .arg(&config)
        .envs([("NODE_NAME", "n1"), ("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount")])
        .envs([("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)])
        .env("FILES", &account);
    let mut agent = Agent::spawn(&directory, &mut command);
    // The base has the canary.
    let [v4, v6] = Family::BOTH.map(|family| {
        let path = canary::path(family);
        (path.front_end.to_string().replace("/tcp", ""), path.endpoint.to_string())
    });
    let canary = [(&*v4.0, [&*v4.1]), (&*v6.0, [&*v6.1])];
    let [v4, v6] = canary.each_ref().map(|(server, endpoint)| (*server, &endpoint[..]));
    until_held("synced", &[("10.96.0.1:80", &["10.244.1.5:8080"]), v4, v6]);
    assert_eq!(agent.ended(), None);
}

/// What the API server, the kernel and other programs make the agent log, and the keys of
/// Kubernetes' components.
fn every_line_of_the_log_is_json() {
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    server.set_outage(true);
    let kubeconfig = kubeconfig.to_str().unwrap();
    let options = ["--log-format", "json", "-v", "6", "--kubeconfig", kubeconfig];
    let agent = Agent::start(&directory, &options);
    let has = |text: &str| agent.log().contains(text);
    until("it waits", || has("waiting for the API server: no list of Node"));
    server.set_outage(false);
    until("it has synced", || has("\"synced\""));
    run("nft flush set ip kube-ipvs pools");
    until("it has repaired drift", || has("repairing it"));
    let log = agent.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        let is_error = line["level"] == "error";
        assert!(line["ts"].is_f64() && line["msg"].is_string(), "{line}");
        assert!(line["logger"].is_string() && line["v"].is_u64() != is_error, "{line}");
    }
    let first = &lines[0];
    assert_eq!((&first["msg"], &first["node"]), (&json!("kube-ipvs starts"), &json!("n1")));
    assert!(first["source"].as_str().unwrap().starts_with("https://"), "{first}");
    let drift = lines.iter().find(|line| line["msg"].as_str().unwrap().contains("repairing it"));
    let drift = drift.unwrap();
    assert!(drift["by"].as_str().unwrap().starts_with("nft (process "), "{drift}");
    assert!(drift["changes"].as_str().unwrap().contains("set pools (ip)"), "{drift}");
    assert!(drift["repairs"].as_str().unwrap().contains("add element"), "{drift}");
}

/// As `kubectl exec` does in the agent's pod: its environment names the `kubernetes` Service.
fn doctor_goes_by_the_agents_flags() {
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    let mut cache = service("cache", "10.96.0.2");
    cache["metadata"]["annotations"] = json!({"kube-ipvs.io/scheduler": "mh"});
    server.put(cache);
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    let directory = tempfile::tempdir().unwrap();
    let mut agent = Agent::follow(&directory, &server);
    until_held("synced", &[("10.96.0.1:80", &["10.244.1.5:8080"])]);
    let asked = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_kube-ipvs");
        let environment =
            [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
        let done = Command::new(program).args(arguments).envs(environment).output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        (told, String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let checked = |report: &str, check| {
        let line = report.lines().find(|line| line.contains(check));
        line.unwrap_or_default().to_owned()
    };
    let judged = |report: &str| checked(report, "API server");
    let (report, notes) = asked(&["doctor"]);
    let of_agent = judged(&report);
    // The scheduler of the Service is checked, whether or not this kernel has it.
    let schedulers = checked(&report, "schedulers");
    assert!(!schedulers.is_empty() && !schedulers.contains("no option"), "{report}{notes}");
    assert!(
        of_agent.starts_with("ok ") && of_agent.contains("no service range"),
        "{report}{notes}"
    );
    assert!(notes.contains("--kubeconfig"), "{notes}");
    // An agent that other options lead elsewhere is another matter.
    let (report, notes) = asked(&["doctor", "--node-name", "n1"]);
    assert!(!judged(&report).contains("no service range"), "{report}{notes}");
    assert!(!notes.contains("--kubeconfig"), "{notes}");
    let (status, notes) = asked(&["status", "-o", "json"]);
    assert!(status.contains("default/web"), "{notes}");
    assert_eq!(agent.ended(), None);
}

/// An `exec` plugin of a kubeconfig, which is asked for each request: its token has expired already.
const PLUGIN: &str = r#"#!/bin/sh
if [ -e "$0.hangs" ]; then echo $$ >"$0.pid" && exec sleep 300; fi
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
"status": {"token": "TOKEN", "expirationTimestamp": "2020-01-01T00:00:00Z"}}'
"#;

fn a_hanging_plugin_does_not_stop_the_agent() {
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let mut kubeconfig: Value = serde_json::from_str(&server.kubeconfig()).unwrap();
    let user = &mut kubeconfig["users"][0]["user"];
    let text = PLUGIN.replace("TOKEN", user["token"].as_str().unwrap());
    fs::write(place("plugin"), text).unwrap();
    fs::set_permissions(place("plugin"), Permissions::from_mode(0o755)).unwrap();
    *user = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": place("plugin"),
        "interactiveMode": "Never",
    }});
    fs::write(place("kubeconfig"), kubeconfig.to_string()).unwrap();
    let mut agent =
        Agent::start(&directory, &["--kubeconfig", place("kubeconfig").to_str().unwrap()]);
    let one: &[&str] = &["10.244.1.5:8080"];
    until_held("what there was", &[("10.96.0.1:80", one)]);

    fs::write(place("plugin.hangs"), "").unwrap();
    server.disconnect();
    server.put(service("late", "10.96.0.2"));
    server.put(slice("late-1", "late", &["10.244.1.5"]));
    let hanging = || fs::read_to_string(place("plugin.pid")).ok();
    until("the plugin hangs", || hanging().is_some_and(|pid| pid.ends_with('\n')));
    let route = "local 10.96.0.1 dev lo";
    let is_there = || output("ip route show table local proto 75").contains(route);
    assert!(is_there());
    run(&format!("ip route delete table local {route}"));
    until("the route is back", is_there);
    until_held("nothing is taken away", &[("10.96.0.1:80", one)]);
    assert_eq!(agent.ended(), None);

    fs::remove_file(place("plugin.hangs")).unwrap();
    run(&format!("kill {}", hanging().unwrap().trim()));
    until_held("what came meanwhile", &[("10.96.0.1:80", one), ("10.96.0.2:80", one)]);
}

fn the_agent_follows_an_api_server() {
    let server = node_and_server();
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));

    let directory = tempfile::tempdir().unwrap();
    let _agent = Agent::follow(&directory, &server);
    let one: &[&str] = &["10.244.1.5:8080"];
    let two: &[&str] = &["10.244.1.5:8080", "10.244.2.5:8080"];
    until_held("what there was", &[("10.96.0.1:80", one)]);

    server.put(service("api", "10.96.0.2"));
    server.put(slice("api-1", "api", &["10.244.2.5"]));
    until_held("created", &[("10.96.0.1:80", one), ("10.96.0.2:80", &two[1..])]);

    let addresses: &[&str] = &["10.244.1.5", "10.244.2.5"];
    server.put(slice("web-1", "web", addresses));
    until_held("changed", &[("10.96.0.1:80", two), ("10.96.0.2:80", &two[1..])]);

    server.delete(SERVICES, "default/api");
    server.delete(SLICES, "default/api-1");
    until_held("deleted", &[("10.96.0.1:80", two)]);

    // Reconnect: nothing was missed, nothing is lost.
    server.disconnect();
    server.put(service("late", "10.96.0.3"));
    server.put(slice("late-1", "late", addresses));
    until_held("reconnected", &[("10.96.0.1:80", two), ("10.96.0.3:80", two)]);

    // Relist: what happened meanwhile can no longer be told, so everything is listed again.
    until("it is connected", || shows("kube_ipvs_source_connected{kind=\"Service\"} 1"));
    server.set_outage(true);
    until("the loss is measured", || shows("kube_ipvs_source_connected{kind=\"Service\"} 0"));
    server.delete(SERVICES, "default/late");
    server.delete(SLICES, "default/late-1");
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    server.compact();
    server.set_outage(false);
    until_held("relisted", &[("10.96.0.1:80", one)]);
    until("it is connected again", || shows("kube_ipvs_source_connected{kind=\"Service\"} 1"));
    let host = server.url().replace("https://", "");
    let answers =
        format!("rest_client_requests_total{{code=\"200\",host=\"{host}\",method=\"GET\"}} ");
    assert!(shows(&answers), "{answers}");
}

/// Whether the metrics have a line that begins so.
fn shows(line: &str) -> bool {
    let agent = AgentClient::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 10249)));
    let metrics = agent.get("/metrics").unwrap_or_default();
    String::from_utf8_lossy(&metrics).lines().any(|it| it.starts_with(line))
}
