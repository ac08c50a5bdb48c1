//! The program as a separate process in the caller's network namespace.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::api::ApiServer;

/// The timeout of the first sync; the machine is emulated.
const SYNC_TIMEOUT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The processor time of its threads.
struct Ran {
    threads: usize,
    nanoseconds: u64,
}

pub(crate) struct Agent {
    process: Child,
    /// The kubeconfig and the log.
    directory: TempDir,
}

impl Agent {
    /// Starts the agent for node `n1`, and waits for the first sync.
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
            if start.elapsed() > SYNC_TIMEOUT || agent.process.try_wait()?.is_some() {
                return Err(format!("the agent has not synced: {log}").into());
            }
            sleep(POLL_INTERVAL);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Returns the processor time of the agent's threads during `act`, in user and kernel mode: the
    /// scheduler's count in nanoseconds.
    pub(crate) fn busy_during(&self, act: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let before = self.ran()?;
        act()?;
        let after = self.ran()?;
        // The processor time of a thread disappears with the thread.
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
