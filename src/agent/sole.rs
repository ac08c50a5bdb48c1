//! One agent at a time in a network namespace: two would undo each other's work without an end.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use tracing::{info, warn};

/// An abstract socket: its name belongs to the network namespace and is free as soon as the process
/// that holds it ends, however it ends.
const NAME: &str = "\0kube-ipvs/agent";
/// Wait between two tries to get the name.
const AGAIN: Duration = Duration::from_millis(250);

/// Being the only agent, for as long as this lives.
#[derive(Debug)]
pub(super) struct Sole {
    /// Nothing is ever accepted: a process that connects only asks the kernel which one listens.
    _name: Option<UnixListener>,
}

/// The process that is the agent of this network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its process id; `None` if it belongs to another process namespace, as of another pod.
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
    /// Any process may take the name. One that may write to the kernel runs as root, or as we do.
    fn is_credible(&self) -> bool {
        [0, geteuid().as_raw()].contains(&self.user)
    }
}

/// The agent that runs in this network namespace, if there is one.
///
/// Needs a runtime of tokio with its IO.
pub async fn running() -> Option<Holder> {
    holder().await.filter(Holder::is_credible)
}

async fn holder() -> Option<Holder> {
    let holder = UnixStream::connect(NAME).await.ok()?.peer_cred().ok()?;
    let pid = holder.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    Some(Holder { pid, user: holder.uid() })
}

/// Waits until no other agent runs in this network namespace. A rolling update may start an agent
/// before the former one has ended.
pub(super) async fn become_sole() -> Sole {
    let mut waits = false;
    loop {
        match UnixListener::bind(NAME) {
            Ok(name) => {
                if waits {
                    info!("the other agent has ended");
                }
                return Sole { _name: Some(name) };
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match holder().await {
                Some(holder) if !holder.is_credible() => {
                    let Holder { user, .. } = holder;
                    warn!(
                        "{holder} of user {user} pretends to be the agent of this node; going on beside it"
                    );
                    return Sole { _name: None };
                }
                Some(holder) if !waits => {
                    waits = true;
                    warn!(
                        "another agent runs in this network namespace: {holder}; waiting for its end"
                    );
                }
                // It may have ended this moment.
                _ => {}
            },
            Err(error) => {
                warn!("another agent in this network namespace would not be noticed: {error}");
                return Sole { _name: None };
            }
        }
        sleep(AGAIN).await;
    }
}
