//! What the machine and the environment say about the node.

use std::env;
use std::fs;

/// What the machine and the environment say about the node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Environment {
    /// Environment variable `NODE_NAME`, as kubeadm's DaemonSet sets it.
    pub(super) node_name: Option<String>,
    /// The host name of this network and UTS namespace.
    pub(super) host_name: Option<String>,
}

impl Environment {
    pub(super) fn read() -> Self {
        Self {
            node_name: env::var("NODE_NAME").ok(),
            host_name: fs::read_to_string("/proc/sys/kernel/hostname").ok(),
        }
    }
}
