//! Network namespaces that live as long as their value.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The ports that clients choose among: above the agent's, below those of node ports and of
/// masqueraded connections.
const CLIENT_PORTS: Range<u16> = 11_000..30_000;

/// Makes the names of each call unique.
static LABS: AtomicU16 = AtomicU16::new(0);

/// A network namespace. It has no name in `/run/netns`, so that nothing is left behind however
/// the tests end.
pub(crate) struct Namespace {
    file: OwnedFd,
    /// How many clients have got a port of their own.
    clients: AtomicU16,
}

impl Namespace {
    /// Makes one namespace per name, all with one run of `ip`.
    pub(crate) fn create<const N: usize>(names: [&'static str; N]) -> io::Result<[Self; N]> {
        let lab = LABS.fetch_add(1, Ordering::Relaxed);
        let path = |name: &str| format!("kube-ipvs-{}-{lab}-{name}", std::process::id());
        let lines = |verb: &str| {
            names.iter().map(|name| format!("netns {verb} {}\n", path(name))).collect()
        };
        let add: String = lines("add");
        let delete: String = lines("delete");
        run_batch(&mut Command::new("ip"), &add)?;
        let opened: io::Result<Vec<Self>> = names
            .iter()
            .map(|&name| {
                let file = fs::File::open(format!("/run/netns/{}", path(name)))?.into();
                Ok(Self { file, clients: AtomicU16::new(0) })
            })
            .collect();
        run_batch(&mut Command::new("ip"), &delete)?;
        opened?.try_into().map_err(|_| io::Error::other("as many namespaces as names"))
    }

    /// What `ip link set … netns` takes for this namespace.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Does `work` on a thread inside the namespace. Sockets and processes that it makes belong to
    /// the namespace for good.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter().expect("root may enter a namespace that it has made");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// A port for a client to connect from, which no other one gets for long.
    ///
    /// Left to the kernel, two connections to two addresses may share one, and so clash where both
    /// lead to the same backend.
    pub(crate) fn client_port(&self) -> u16 {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        CLIENT_PORTS.start + number % (CLIENT_PORTS.end - CLIENT_PORTS.start)
    }

    /// Starts a process.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.inside(|| command.spawn())
    }

    /// Runs a process to its end.
    pub(crate) fn output(&self, command: &mut Command) -> io::Result<Output> {
        self.inside(|| command.stdin(Stdio::null()).output())
    }

    /// Standard output of a program that has to succeed.
    pub(crate) fn read(&self, program: &str, arguments: &[&str]) -> io::Result<String> {
        let output = self.output(Command::new(program).args(arguments))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let line = format!("{program} {}: {}", arguments.join(" "), stderr.trim());
            return Err(io::Error::other(line));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives lines to `ip -batch`.
    pub(crate) fn ip(&self, lines: &str) -> io::Result<()> {
        self.inside(|| run_batch(&mut Command::new("ip"), lines))
    }

    /// Gives commands to `nft -f`.
    pub(crate) fn nft(&self, commands: &str) -> io::Result<()> {
        self.inside(|| run(Command::new("nft").args(["-f", "-"]), commands))
    }

    /// Gives rules to `iptables-nft-restore` or its like.
    pub(crate) fn iptables(&self, program: &str, rules: &str) -> io::Result<()> {
        self.inside(|| run(&mut Command::new(program), rules))
    }

    /// Gives rules to `ipvsadm -R`.
    pub(crate) fn ipvsadm(&self, rules: &str) -> io::Result<()> {
        self.inside(|| run(Command::new("ipvsadm").arg("-R"), rules))
    }

    /// Writes sysctls, given as `net.ipv4.ip_forward=1`.
    pub(crate) fn sysctl(&self, settings: &[&str]) -> io::Result<()> {
        self.inside(|| {
            for setting in settings {
                let (key, value) = setting.split_once('=').expect("KEY=VALUE");
                fs::write(format!("/proc/sys/{}", key.replace('.', "/")), value)
                    .map_err(|error| io::Error::other(format!("sysctl {setting}: {error}")))?;
            }
            Ok(())
        })
    }
}

fn run_batch(ip: &mut Command, lines: &str) -> io::Result<()> {
    run(ip.args(["-batch", "-"]), lines)
}

/// Runs a program that reads `input` and has to succeed.
pub(super) fn run(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("piped");
    // A program that fails early closes its end; its message tells more than the broken pipe.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{command:?}: {}\n{input}", stderr.trim())));
    }
    written
}
