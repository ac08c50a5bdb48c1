//! The agent with an API server: `run --kubeconfig`, over TLS, on a real kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Component, component, output, run};
use crate::api::objects::{node, service, service_cidr, slice};
use crate::api::{ApiServer, SERVICES, SLICES};

/// Long, because the machine may be emulated and busy.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn components() -> Vec<Component> {
    let mut components =
        vec![component("the_agent_follows_an_api_server", the_agent_follows_an_api_server)];
    // Takes the module from the whole machine for a moment, so not from a developer's. It comes
    // before all that uses the module: as long as any namespace does, it cannot be unloaded.
    if std::env::var_os("KUBE_IPVS_IN_VM").is_some() {
        components.insert(0, component("without_the_module", without_the_module));
    }
    components
}

fn without_the_module() {
    if Path::new("/sys/module/ip_vs").exists() {
        run("modprobe --remove ip_vs");
    }
    let loader = fs::read_to_string("/proc/sys/kernel/modprobe").unwrap();
    fs::write("/proc/sys/kernel/modprobe", "/bin/false").unwrap();
    let directory = tempfile::tempdir().unwrap();
    // The agent loads modules by itself where it may: here it may not.
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

/// The agent's process; ends with the test, and tells its log if that fails.
struct Agent(Child, PathBuf);

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(&self.1).unwrap_or_default());
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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

fn the_agent_follows_an_api_server() {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip address add 192.0.2.1/24 dev uplink");
    run("ip link set uplink up");
    let server = ApiServer::start_tls();
    server.put(node("n1", "192.0.2.1"));
    server.put(service_cidr("kubernetes", "10.96.0.0/16"));
    server.put(service("web", "10.96.0.1"));
    server.put(slice("web-1", "web", &["10.244.1.5"]));

    let directory = tempfile::tempdir().unwrap();
    let (kubeconfig, log) = (directory.path().join("kubeconfig"), directory.path().join("log"));
    fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
        .args(["run", "--node-name", "n1", "--kubeconfig"])
        .arg(&kubeconfig)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let _agent = Agent(agent, log);
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

    // Relist: what happened meanwhile can no longer be told, so everything is listed anew.
    server.set_outage(true);
    server.delete(SERVICES, "default/late");
    server.delete(SLICES, "default/late-1");
    server.put(slice("web-1", "web", &["10.244.1.5"]));
    server.compact();
    server.set_outage(false);
    until_held("relisted", &[("10.96.0.1:80", one)]);
}
