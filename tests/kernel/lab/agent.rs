//! The program under test, as a process on node `n1`.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::host::Host;
use super::manifest::Manifest;
use super::{Lab, Namespace};

/// How long the agent may take for its first sync, or to end.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Options that every command gets: those of a cluster with pods in `10.244.0.0/16`.
const OPTIONS: [&str; 4] = ["--node-name", "n1", "--cluster-cidr", "10.244.0.0/16,fd00:244::/32"];

/// A manifests directory with commands that work on it, and the agent once it is started.
pub(crate) struct Agent {
    namespace: std::sync::Arc<Namespace>,
    program: PathBuf,
    manifests: PathBuf,
    log: PathBuf,
    /// The file with our own options, if a case has written one.
    config: Option<PathBuf>,
    process: Option<Child>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status; `None` after a signal.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Agent {
    /// An agent on `n1` with an empty manifests directory, not started.
    pub(crate) fn new(lab: &Lab, name: &str) -> io::Result<Self> {
        let directory = lab.directory(name)?;
        let manifests = directory.join("manifests");
        fs::create_dir_all(&manifests)?;
        Ok(Self {
            namespace: std::sync::Arc::clone(lab.host(Host::N1)),
            program: lab.program().clone(),
            manifests,
            log: directory.join("log"),
            config: None,
            process: None,
        })
    }

    /// Another one, not started, on the same node with the same manifests and configuration.
    pub(crate) fn another(&self) -> Self {
        Self {
            namespace: std::sync::Arc::clone(&self.namespace),
            program: self.program.clone(),
            manifests: self.manifests.clone(),
            log: self.log.with_file_name("log-of-another"),
            config: self.config.clone(),
            process: None,
        }
    }

    /// Where the manifests lie.
    pub(crate) fn manifests(&self) -> &Path {
        &self.manifests
    }

    /// Saves a manifest as editors do: a new file, renamed over the old one.
    pub(crate) fn save(&self, file: &str, content: &str) -> io::Result<()> {
        let draft = self.manifests.join(format!(".{file}.draft"));
        fs::write(&draft, content)?;
        fs::rename(draft, self.manifests.join(file))
    }

    /// Saves an object in a file of its own.
    pub(crate) fn apply(&self, object: &Manifest) -> io::Result<()> {
        self.save(&object.file(), &object.content())
    }

    /// Removes the file of an object.
    pub(crate) fn delete(&self, object: &Manifest) -> io::Result<()> {
        fs::remove_file(self.manifests.join(object.file()))
    }

    /// Stops the agent; it and all commands run with these options of our own from now on.
    pub(crate) fn configure(&mut self, options: &str) -> io::Result<()> {
        self.write_configuration(options, "")
    }

    /// As [`Agent::configure`], with kube-proxy's options.
    pub(crate) fn configure_proxy(&mut self, options: &str) -> io::Result<()> {
        self.write_configuration("", options)
    }

    fn write_configuration(&mut self, own: &str, proxy: &str) -> io::Result<()> {
        self.stop()?;
        self.reconfigure(own, proxy)
    }

    /// Replaces the file with our own options and kube-proxy's, under the agent if it runs.
    pub(crate) fn reconfigure(&mut self, own: &str, proxy: &str) -> io::Result<()> {
        let file = self.log.with_file_name("config.yaml");
        let own_head = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration";
        let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration";
        // Flags of kube-proxy are not read beside a file.
        let cidr = OPTIONS[3];
        let proxy = format!("{head}\nclusterCIDR: \"{cidr}\"\n{proxy}");
        let draft = file.with_extension("draft");
        fs::write(&draft, format!("{own_head}\n{own}\n---\n{proxy}\n"))?;
        fs::rename(&draft, &file)?;
        self.config = Some(file);
        Ok(())
    }

    /// Stops the agent; it and all commands run with defaults from now on.
    pub(crate) fn forget_configuration(&mut self) -> io::Result<()> {
        if self.config.take().is_some() {
            self.stop()?;
        }
        Ok(())
    }

    /// Starts the agent and waits for its first sync.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        self.start_under(&[])
    }

    /// Starts the agent by way of `wrapper`, which has to become it, and waits for its first sync.
    pub(crate) fn start_under(&mut self, wrapper: &[&str]) -> io::Result<()> {
        self.spawn(wrapper)?;
        let deadline = Instant::now() + START_PATIENCE;
        while self.synced_line().is_none() {
            if let Some(status) = self.exited()? {
                return Err(self.complaint(&format!("ended at its start ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.complaint("has not logged `synced`"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts the agent if it is not running, and waits for nothing.
    pub(crate) fn launch(&mut self) -> io::Result<()> {
        if self.is_running() { Ok(()) } else { self.spawn(&[]) }
    }

    /// Starts the agent by way of `wrapper`, and waits for nothing.
    pub(crate) fn spawn(&mut self, wrapper: &[&str]) -> io::Result<()> {
        let log = File::create(&self.log)?;
        let program = self.program.as_os_str();
        let mut words = wrapper.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command
            .args(words)
            .arg("run")
            .args(self.options())
            .env("KUBE_IPVS_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(self.namespace.spawn(&mut command)?);
        Ok(())
    }

    /// What the kernel tells of the process (`/proc/PID/status`).
    pub(crate) fn process_status(&self) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/status", self.pid()?))
    }

    /// The process that it is.
    pub(crate) fn pid(&self) -> io::Result<u32> {
        let process = self.process.as_ref().ok_or_else(|| self.complaint("is not running"))?;
        Ok(process.id())
    }

    /// Whether it has been started and not stopped.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends the agent as a kubelet does. It has to exit with status 0.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        match self.end_by(Signal::TERM)? {
            Some(status) if !status.success() => {
                Err(self.complaint(&format!("ended with {status}")))
            }
            _ => Ok(()),
        }
    }

    /// Kills the agent.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.end_by(Signal::KILL).map(drop)
    }

    /// Ends the agent by a signal, if it runs, and says how it has ended.
    pub(crate) fn end_by(&mut self, signal: Signal) -> io::Result<Option<ExitStatus>> {
        let Some(mut child) = self.process.take() else { return Ok(None) };
        kill_process(Pid::from_child(&child), signal)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                return Err(self.complaint(&format!("did not end on {signal:?}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The log line that says that the first sync is done.
    pub(crate) fn synced_line(&self) -> Option<String> {
        self.log().lines().find(|line| words(line).any(|word| word == "synced")).map(str::to_owned)
    }

    /// Everything that the agent has logged since its start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log holds a text.
    pub(crate) fn wait_for_log(&self, text: &str) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while !self.log().contains(text) {
            if Instant::now() > deadline {
                return Err(self.complaint(&format!("has not logged {text:?}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the kernel holds what the manifests say, as `plan` sees it.
    pub(crate) fn settled(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            let plan = self.command("plan", &["--exit-code"])?;
            if plan.status == Some(0) {
                return Ok(());
            }
            if plan.status != Some(3) || Instant::now() > deadline {
                return Err(self.complaint(&format!("has not synced; `plan` says {plan:#?}")));
            }
            if let Some(status) = self.exited()? {
                return Err(self.complaint(&format!("has ended ({status})")));
            }
        }
    }

    /// Runs a command on the same manifests and node.
    pub(crate) fn command(&self, name: &str, arguments: &[&str]) -> io::Result<Finished> {
        self.finish(Command::new(&self.program).arg(name).args(self.options()).args(arguments))
    }

    /// Begins a command that takes no objects.
    pub(crate) fn begin(&self, arguments: &[&str]) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        self.namespace.spawn(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()))
    }

    /// Runs a command that takes no objects.
    pub(crate) fn bare_command(&self, arguments: &[&str]) -> io::Result<Finished> {
        self.finish(Command::new(&self.program).args(arguments))
    }

    /// Runs the agent under `wrapper` (such as `setpriv`) until it ends, or ends it after a while.
    pub(crate) fn run_under(&self, wrapper: &[&str]) -> io::Result<Finished> {
        let mut command = Command::new("timeout");
        command.arg("20").args(wrapper).arg(&self.program).arg("run").args(self.options());
        self.finish(&mut command)
    }

    fn finish(&self, command: &mut Command) -> io::Result<Finished> {
        let output = self.namespace.output(command)?;
        Ok(Finished {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The options that every command gets.
    pub(crate) fn options(&self) -> Vec<&str> {
        let manifests = self.manifests.to_str().expect("a path in ASCII");
        let config = self.config.as_ref().and_then(|file| file.to_str());
        let config = config.map_or_else(Vec::new, |file| vec!["--config", file]);
        [&["--manifests", manifests], OPTIONS.as_slice(), &config].concat()
    }

    fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.as_mut().map_or(Ok(None), Child::try_wait)
    }

    fn complaint(&self, what: &str) -> io::Error {
        io::Error::other(format!("the agent {what}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}
