//! The agent as a process of its own, on a node with one address.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::run;
use crate::api::ApiServer;
use crate::api::objects::{node, service_cidr};

/// Long, because the machine may be emulated and busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The agent's process; ends with the test, and tells its log if that fails.
pub(super) struct Agent {
    process: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts `kube-ipvs run` for node `n1`; its log comes into the directory.
    pub(super) fn start(directory: &TempDir, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"));
        Self::spawn(directory, command.args(["run", "--node-name", "n1"]).args(arguments))
    }

    /// The same with a command that becomes the agent.
    pub(super) fn spawn(directory: &TempDir, command: &mut Command) -> Self {
        let log = directory.path().join("log");
        let process = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Self { process, log }
    }

    /// Starts it for an API server.
    pub(super) fn follow(directory: &TempDir, server: &ApiServer) -> Self {
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        Self::start(directory, &["--kubeconfig", kubeconfig.to_str().unwrap()])
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Gives the namespace the node's address, and makes an API server that knows the node and the
/// cluster's service range.
pub(super) fn node_and_server() -> ApiServer {
    run("ip link set lo up");
    run("ip link add uplink type dummy");
    run("ip address add 192.0.2.1/24 dev uplink");
    run("ip link set uplink up");
    let server = ApiServer::start_tls();
    server.put(node("n1", "192.0.2.1"));
    server.put(service_cidr("kubernetes", "10.96.0.0/16"));
    server
}

/// Waits until something holds.
#[track_caller]
pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(20));
    }
}
