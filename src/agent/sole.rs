//! Allows one agent per network namespace: two agents would endlessly undo each other's work.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use tracing::{info, warn};

/// An abstract socket: its name belongs to the network namespace and is free as soon as the process
/// that owns it ends.
const NAME: &str = "\0kube-ipvs/agent";
/// The wait between two attempts to get the name.
const AGAIN: Duration = Duration::from_millis(250);

/// The process that is the agent of this network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// `None` if the process belongs to another PID namespace, such as another pod's.
    pub pid: Option<u32>,
    user: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("a process of another container"),
        }
    }
}

impl Holder {
    /// Any process may take the name, but a process that may write to the kernel runs as root or as
    /// the agent's user.
    fn is_credible(&self) -> bool {
        [0, geteuid().as_raw()].contains(&self.user)
    }
}

/// Returns the agent that runs in this network namespace, if any.
///
/// Requires a tokio runtime with IO.
pub async fn running() -> Option<Holder> {
    holder().await.filter(Holder::is_credible)
}

async fn holder() -> Option<Holder> {
    let holder = UnixStream::connect(NAME).await.ok()?.peer_cred().ok()?;
    let pid = holder.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    Some(Holder { pid, user: holder.uid() })
}

/// Waits until no other agent runs in this network namespace. A rolling update may start an agent
/// before the previous one has ended. The agent keeps the name until it drops the listener, whose
/// connections are never accepted: a client only asks the kernel for the process that listens.
pub(super) async fn acquire_lock() -> Option<UnixListener> {
    let mut waits = false;
    loop {
        match UnixListener::bind(NAME) {
            Ok(name) => {
                if waits {
                    info!("the other agent has ended");
                }
                return Some(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder().await {
                Some(holder) if !holder.is_credible() => {
                    let Holder { user, .. } = holder;
                    warn!(
                        "{holder} of user {user} pretends to be the agent of this node and is ignored"
                    );
                    return None;
                }
                Some(holder) if !waits => {
                    waits = true;
                    warn!(
                        "another agent runs in this network namespace: {holder}; waiting for it \
                         to end"
                    );
                }
                // It may have ended just now.
                _ => {}
            },
            Err(error) => {
                warn!("another agent in this network namespace cannot be detected: {error}");
                return None;
            }
        }
        sleep(AGAIN).await;
    }
}
