//! kube-proxy's flags and file, and our options → one resolved, validated [`Config`].

mod address;
mod conntrack;
mod document;
mod duration;
mod environment;
mod flags;
mod options;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kube_ipvs_core::model::{NodePortAddresses, Settings};

pub use conntrack::ConntrackConfig;
pub use duration::parse as duration;
pub use flags::{LogFormat, ProxyFlags, SharedFlags, path, truth};
pub use resolve::resolve;
#[doc(hidden)]
pub use resolve::resolve_text;
pub use write::{show, write};

/// Why a configuration cannot be used: the command line or a file is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {place}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Document and field.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A value is wrong.
    #[error("{option}: {reason}")]
    Value {
        /// The flag or the field.
        option: String,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// Where objects come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceConfig {
    /// The files under a directory.
    Manifests(PathBuf),
    /// The Kubernetes API.
    Kubernetes {
        /// How to reach it; in-cluster configuration without.
        kubeconfig: Option<PathBuf>,
        /// The server's URL, instead of the kubeconfig's.
        master: Option<String>,
    },
}

/// `ipvs.tcpTimeout`, `tcpFinTimeout`, `udpTimeout`. What is `None` stays as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IpvsTimeouts {
    /// Idle established TCP connections; by default as long as connection tracking keeps them.
    pub tcp: Option<Duration>,
    /// TCP connections after a FIN; 10 s by default, where the kernel has 120 s.
    pub tcp_fin: Option<Duration>,
    /// Idle UDP flows.
    pub udp: Option<Duration>,
}

/// What is logged, and in which form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// The form.
    pub format: LogFormat,
    /// A level, or a filter of levels by module.
    pub level: String,
}

/// Everything that may be configured, resolved and validated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// What decides the desired state.
    pub settings: Settings,
    /// Where objects come from.
    pub source: SourceConfig,
    /// Where health is answered; `None` to listen nowhere.
    pub health_address: Option<SocketAddr>,
    /// Where metrics and questions are answered; `None` to listen nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// Whether the agent ends if it cannot listen.
    pub bind_address_hard_fail: bool,
    /// Shortest time from the end of one sync to the start of the next.
    pub min_sync_period: Duration,
    /// An update that waits for twice this long makes the node unhealthy.
    pub sync_period: Duration,
    /// How often at least everything is read back from the kernel; `None` for never.
    pub audit_period: Option<Duration>,
    /// Of how many Services at most connections, packets and bytes are among the metrics.
    pub traffic_metrics_services: u32,
    /// Whether what kube-proxy has left is removed after the first sync.
    pub remove_kube_proxy: bool,
    /// How long IPVS keeps idle connections.
    pub ipvs_timeouts: IpvsTimeouts,
    /// Size and timeouts of connection tracking.
    pub conntrack: ConntrackConfig,
    /// The agent's `oom_score_adj`, from -1000 to 1000.
    pub oom_score_adj: i32,
    /// What is logged, and in which form.
    pub log: LogConfig,
    /// What was given and means nothing here, or is better said otherwise: one line each.
    pub warnings: Vec<String>,
}

impl Default for Config {
    /// The configuration of a node without a name, before anything is given.
    fn default() -> Self {
        Self {
            settings: Settings {
                node_port_addresses: NodePortAddresses::all(),
                ..Settings::for_node("")
            },
            source: SourceConfig::Kubernetes { kubeconfig: None, master: None },
            health_address: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
            metrics_address: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
            bind_address_hard_fail: false,
            min_sync_period: Duration::ZERO,
            sync_period: Duration::from_secs(30),
            audit_period: Some(Duration::from_secs(300)),
            traffic_metrics_services: 0,
            remove_kube_proxy: false,
            ipvs_timeouts: IpvsTimeouts::default(),
            conntrack: ConntrackConfig::default(),
            oom_score_adj: -999,
            log: LogConfig { format: LogFormat::Text, level: "info".to_owned() },
            warnings: Vec::new(),
        }
    }
}
