//! The program itself, as a process of its own in the namespace of whoever starts it.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::api::ApiServer;

/// How long it may take to sync; the machine is emulated.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOKS_AGAIN: Duration = Duration::from_millis(200);

/// What its threads have run.
struct Ran {
    threads: usize,
    nanoseconds: u64,
}

pub(crate) struct Agent {
    process: Child,
    /// Its kubeconfig and its log.
    directory: TempDir,
}

impl Agent {
    /// Starts it for node `n1`, and waits until the kernel holds what the server tells.
    pub(crate) fn start(server: &ApiServer) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig())?;
        let process = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
            .args(["run", "--node-name", "n1", "--kubeconfig"])
            .arg(kubeconfig)
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()?;
        let mut agent = Self { process, directory };
        let start = Instant::now();
        loop {
            let log = agent.log();
            if log.lines().any(|line| line.split([' ', ':']).any(|word| word == "synced")) {
                return Ok(agent);
            }
            if start.elapsed() > PATIENCE || agent.process.try_wait()?.is_some() {
                return Err(format!("the agent has not synced: {log}").into());
            }
            sleep(LOOKS_AGAIN);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// How long its threads ran on a processor meanwhile, be it in the program or in the kernel: the
    /// scheduler's own count, to the nanosecond.
    pub(crate) fn busy_during(&self, act: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let before = self.ran()?;
        act()?;
        let after = self.ran()?;
        // What a thread ran goes with it.
        if before.threads != after.threads {
            return Err("a thread began or ended meanwhile".into());
        }
        Ok(Duration::from_nanos(after.nanoseconds - before.nanoseconds))
    }

    fn ran(&self) -> Result<Ran> {
        let mut ran = Ran { threads: 0, nanoseconds: 0 };
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let counts = fs::read_to_string(thread?.path().join("schedstat"))?;
            let on_processor = counts.split(' ').next().ok_or("no schedstat")?;
            ran.threads += 1;
            ran.nanoseconds += on_processor.parse::<u64>()?;
        }
        Ok(ran)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
