//! kube-proxy's flags and file, and our options → one resolved, validated [`Config`].

mod address;
mod differences;
mod document;
mod flags;
mod ignored;
mod options;
mod read;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use kube_ipvs_core::model::{LabelSelector, NodePortAddresses, Settings};

use crate::source::kubernetes::ApiAccess;

pub use differences::{Difference, differences};
pub use flags::{LogFormat, ProxyFlags, SharedFlags, count, path, truth};
#[doc(hidden)]
pub use resolve::resolve_text;
pub use resolve::{log_format, resolve};
pub use write::{show, show_flags, write};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}, which --config names: {cause}", path = path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("{path}: {place}: {reason}", path = path.display())]
    File {
        path: PathBuf,
        /// Document and field.
        place: String,
        /// What is invalid and what would be valid.
        reason: String,
    },
    #[error("{option}: {reason}")]
    Value {
        /// The flag or the field.
        option: String,
        /// What is invalid and what would be valid.
        reason: String,
    },
    /// Of several fields or flags, one error each.
    #[error("{}", joined(.0))]
    Several(Vec<Self>),
}

impl ConfigError {
    /// The errors, in the order of documents and fields. Each fits a line.
    #[must_use]
    pub fn each(&self) -> &[Self] {
        match self {
            Self::Several(errors) => errors,
            _ => slice::from_ref(self),
        }
    }

    /// What it is about: document and field, or flag.
    fn place(&self) -> &str {
        match self {
            Self::File { place, .. } => place,
            Self::Value { option, .. } => option,
            Self::Read { .. } | Self::Several(_) => "",
        }
    }
}

fn joined(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The source of the objects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceConfig {
    /// The files under a directory.
    Manifests(PathBuf),
    Kubernetes(ApiAccess),
}

/// The resolved and validated configuration. `options.yaml` describes what its fields mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub settings: Settings,
    /// The texts of [`Settings::defaults`] by name.
    pub defaults: BTreeMap<&'static str, String>,
    pub source: SourceConfig,
    /// `None` to listen nowhere.
    pub health_address: Option<SocketAddr>,
    /// `None` to listen nowhere.
    pub metrics_address: Option<SocketAddr>,
    pub bind_address_hard_fail: bool,
    pub min_sync_period: Duration,
    pub sync_period: Duration,
    /// `None` for no audits.
    pub audit_period: Option<Duration>,
    pub traffic_metrics_services: u32,
    pub traffic_metrics_selector: LabelSelector,
    pub remove_kube_proxy: bool,
    /// How long the canary fails before `/healthz` fails, too; zero for never.
    pub healthz_follows_canary: bool,
    /// `None` leaves the kernel's value, as for the next two.
    pub ipvs_tcp_timeout: Option<Duration>,
    pub ipvs_tcp_fin_timeout: Option<Duration>,
    pub ipvs_udp_timeout: Option<Duration>,
    pub conntrack: ConntrackConfig,
    /// From -1000 to 1000.
    pub oom_score_adj: i32,
    pub log_format: LogFormat,
    /// A level, or a filter of levels by module.
    pub log_level: String,
    /// Values that are ignored or should be given in another way: one line each.
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
            defaults: BTreeMap::new(),
            source: SourceConfig::Kubernetes(ApiAccess::default()),
            health_address: Some(SocketAddr::from(([0, 0, 0, 0], 10256))),
            metrics_address: Some(SocketAddr::from(([127, 0, 0, 1], 10249))),
            bind_address_hard_fail: false,
            min_sync_period: Duration::ZERO,
            sync_period: Duration::from_secs(30),
            audit_period: Some(Duration::from_secs(300)),
            traffic_metrics_services: 0,
            traffic_metrics_selector: LabelSelector::default(),
            remove_kube_proxy: false,
            healthz_follows_canary: false,
            ipvs_tcp_timeout: None,
            ipvs_tcp_fin_timeout: None,
            ipvs_udp_timeout: None,
            conntrack: ConntrackConfig::default(),
            oom_score_adj: -999,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            warnings: Vec::new(),
        }
    }
}

/// kube-proxy's settings of connection tracking. `None` leaves the kernel's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConntrackConfig {
    /// Entries per processor; 0 leaves the table's size alone.
    pub max_per_core: u32,
    /// The least number of entries, unless `max_per_core` is 0.
    pub min: u32,
    pub tcp_established: Option<Duration>,
    pub tcp_close_wait: Option<Duration>,
    pub tcp_be_liberal: bool,
    pub udp: Option<Duration>,
    pub udp_stream: Option<Duration>,
}

impl Default for ConntrackConfig {
    /// kube-proxy's.
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established: Some(Duration::from_secs(24 * 60 * 60)),
            tcp_close_wait: Some(Duration::from_secs(60 * 60)),
            tcp_be_liberal: false,
            udp: None,
            udp_stream: None,
        }
    }
}
