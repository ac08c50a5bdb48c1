//! The flags that every command shares, and kube-proxy's own.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::IgnoredFlags;

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct SharedFlags {
    /// A KubeProxyConfiguration, as kubeadm writes it; a second document of kind
    /// KubeIpvsConfiguration may follow in the same file
    #[arg(
        long,
        value_name = "FILE",
        value_parser = path(),
        global = true,
        help_heading = "Inputs"
    )]
    pub config: Option<PathBuf>,
    /// Take objects from the .yaml, .yml and .json files under DIR instead of an API server
    #[arg(
        long,
        value_name = "DIR",
        value_parser = path(),
        global = true,
        help_heading = "Inputs"
    )]
    pub manifests: Option<PathBuf>,
    /// This node's name [default: $NODE_NAME, then the host name in lower case]
    #[arg(
        long,
        visible_alias = "hostname-override",
        value_name = "NAME",
        global = true,
        help_heading = "Inputs"
    )]
    pub node_name: Option<String>,
    /// Form of the log
    #[arg(
        long,
        alias = "logging-format",
        value_name = "FORM",
        value_enum,
        global = true,
        help_heading = "Logging"
    )]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, trace, or a filter such as kube_ipvs=debug,kube=info
    #[arg(
        long,
        value_name = "LEVEL",
        env = "KUBE_IPVS_LOG",
        hide_env_values = true,
        global = true,
        help_heading = "Logging"
    )]
    pub log_level: Option<String>,
    /// kube-proxy's verbosity: from 4 on as `--log-level debug`, from 6 on as `trace`
    #[arg(short, long = "v", value_name = "N", global = true, help_heading = "Logging")]
    pub verbosity: Option<u32>,
    /// kube-proxy's flags.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// kube-proxy's flags without a meaning here.
    #[command(flatten)]
    pub ignored: IgnoredFlags,
    /// What was amended of the command line: one line each.
    #[arg(skip)]
    pub warnings: Vec<String>,
}

/// kube-proxy's flags, with kube-proxy's meaning. Ignored where `--config` is given, but for
/// `--master`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "kube-proxy's flags")]
pub struct ProxyFlags {
    /// How to reach the API server
    #[arg(
        long,
        value_name = "FILE",
        value_parser = path(),
        global = true,
        hide_short_help = true
    )]
    pub kubeconfig: Option<PathBuf>,
    /// The API server's URL, instead of the kubeconfig's; or several, separated by commas, of which
    /// one is asked for as long as it answers
    #[arg(long, value_name = "URLS", global = true, hide_short_help = true)]
    pub master: Option<String>,
    /// Ranges of pod addresses, one of each family
    #[arg(long, value_name = "CIDRS", global = true, hide_short_help = true)]
    pub cluster_cidr: Option<String>,
    /// How pods' traffic is told: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix
    #[arg(long, value_name = "MODE", global = true, hide_short_help = true)]
    pub detect_local_mode: Option<String>,
    /// The pods' bridge, for BridgeInterface
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub pod_bridge_interface: Option<String>,
    /// How pods' interfaces begin, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX", global = true, hide_short_help = true)]
    pub pod_interface_name_prefix: Option<String>,
    /// Masquerade all traffic to ClusterIPs
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false", global = true, hide_short_help = true
    )]
    pub masquerade_all: Option<bool>,
    /// Addresses that take node ports: `primary`, `all` or ranges [default: all; with
    /// `--proxy-mode=nftables`, primary]
    #[arg(
        long,
        value_name = "CIDRS",
        value_delimiter = ',',
        global = true,
        hide_short_help = true
    )]
    pub nodeport_addresses: Option<Vec<String>>,
    /// Scheduler of the virtual servers [default: rr]
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub ipvs_scheduler: Option<String>,
    /// Leave ARP requests for service addresses unanswered: always so here
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false", global = true, hide_short_help = true
    )]
    pub ipvs_strict_arp: Option<bool>,
    /// Virtual servers to leave alone; here all that are not ours are left alone anyway
    #[arg(
        long,
        value_name = "CIDRS",
        value_delimiter = ',',
        global = true,
        hide_short_help = true
    )]
    pub ipvs_exclude_cidrs: Option<Vec<String>>,
    /// How long IPVS keeps an idle TCP connection
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub ipvs_tcp_timeout: Option<String>,
    /// How long IPVS keeps a TCP connection after a FIN [default: 10s]
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub ipvs_tcpfin_timeout: Option<String>,
    /// How long IPVS keeps an idle UDP flow
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub ipvs_udp_timeout: Option<String>,
    /// An update that waits for twice this long makes the node unhealthy [default: 30s]
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub ipvs_sync_period: Option<String>,
    /// Shortest time between two syncs [default: 0s]
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub ipvs_min_sync_period: Option<String>,
    /// Connections to track per processor; 0 leaves the kernel's limit [default: 32768]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub conntrack_max_per_core: Option<u32>,
    /// Connections to track at least [default: 131072]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub conntrack_min: Option<u32>,
    /// How long an idle TCP connection is tracked; 0 leaves the kernel's value [default: 24h]
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub conntrack_tcp_timeout_established: Option<String>,
    /// How long a TCP connection is tracked in CLOSE_WAIT [default: 1h]
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub conntrack_tcp_timeout_close_wait: Option<String>,
    /// Let TCP packets outside of the window through
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false", global = true, hide_short_help = true
    )]
    pub conntrack_tcp_be_liberal: Option<bool>,
    /// How long a UDP flow without an answer is tracked
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub conntrack_udp_timeout: Option<String>,
    /// How long a UDP flow in both directions is tracked
    #[arg(long, value_name = "DURATION", global = true, hide_short_help = true)]
    pub conntrack_udp_timeout_stream: Option<String>,
    /// An address of the family in which health and metrics are answered by default
    #[arg(long, value_name = "ADDRESS", global = true, hide_short_help = true)]
    pub bind_address: Option<String>,
    /// Where health is answered; empty for nowhere [default: 0.0.0.0:10256]
    #[arg(long, value_name = "ADDRESS", global = true, hide_short_help = true)]
    pub healthz_bind_address: Option<String>,
    /// Where metrics are answered; empty for nowhere [default: 127.0.0.1:10249]
    #[arg(long, value_name = "ADDRESS", global = true, hide_short_help = true)]
    pub metrics_bind_address: Option<String>,
    /// End if an address cannot be listened at
    #[arg(
        long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = truth, value_name = "true|false", global = true, hide_short_help = true
    )]
    pub bind_address_hard_fail: Option<bool>,
    /// The agent's oom_score_adj [default: -999]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        global = true,
        hide_short_help = true
    )]
    pub oom_score_adj: Option<i32>,
    /// The proxy mode: ipvs, or empty
    #[arg(long, value_name = "MODE", global = true, hide_short_help = true)]
    pub proxy_mode: Option<String>,
}

/// Reads a path. It may be empty: kube-proxy takes that for none.
#[must_use]
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Reads a truth value as Go's flags do.
///
/// # Errors
///
/// Says what one looks like.
pub fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("use true or false".to_owned()),
    }
}

impl ProxyFlags {
    /// The names of those that were given.
    pub(super) fn given(&self) -> Vec<&'static str> {
        FLAGS.iter().filter(|flag| (flag.is_given)(self)).map(|flag| flag.name).collect()
    }
}

/// A flag, and the field that says the same in a file.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) field: &'static str,
    is_given: fn(&ProxyFlags) -> bool,
}

macro_rules! flags {
    ($($member:ident $name:literal = $field:literal;)*) => {
        &[$(Flag { name: $name, field: $field, is_given: |flags| flags.$member.is_some() },)*]
    };
}

/// All of them.
pub(super) const FLAGS: &[Flag] = flags! {
    kubeconfig "--kubeconfig" = "clientConnection.kubeconfig";
    master "--master" = "";
    cluster_cidr "--cluster-cidr" = "clusterCIDR";
    detect_local_mode "--detect-local-mode" = "detectLocalMode";
    pod_bridge_interface "--pod-bridge-interface" = "detectLocal.bridgeInterface";
    pod_interface_name_prefix "--pod-interface-name-prefix" = "detectLocal.interfaceNamePrefix";
    masquerade_all "--masquerade-all" = "iptables.masqueradeAll";
    nodeport_addresses "--nodeport-addresses" = "nodePortAddresses";
    ipvs_scheduler "--ipvs-scheduler" = "ipvs.scheduler";
    ipvs_strict_arp "--ipvs-strict-arp" = "ipvs.strictARP";
    ipvs_exclude_cidrs "--ipvs-exclude-cidrs" = "ipvs.excludeCIDRs";
    ipvs_tcp_timeout "--ipvs-tcp-timeout" = "ipvs.tcpTimeout";
    ipvs_tcpfin_timeout "--ipvs-tcpfin-timeout" = "ipvs.tcpFinTimeout";
    ipvs_udp_timeout "--ipvs-udp-timeout" = "ipvs.udpTimeout";
    ipvs_sync_period "--ipvs-sync-period" = "ipvs.syncPeriod";
    ipvs_min_sync_period "--ipvs-min-sync-period" = "ipvs.minSyncPeriod";
    conntrack_max_per_core "--conntrack-max-per-core" = "conntrack.maxPerCore";
    conntrack_min "--conntrack-min" = "conntrack.min";
    conntrack_tcp_timeout_established "--conntrack-tcp-timeout-established"
        = "conntrack.tcpEstablishedTimeout";
    conntrack_tcp_timeout_close_wait "--conntrack-tcp-timeout-close-wait"
        = "conntrack.tcpCloseWaitTimeout";
    conntrack_tcp_be_liberal "--conntrack-tcp-be-liberal" = "conntrack.tcpBeLiberal";
    conntrack_udp_timeout "--conntrack-udp-timeout" = "conntrack.udpTimeout";
    conntrack_udp_timeout_stream "--conntrack-udp-timeout-stream" = "conntrack.udpStreamTimeout";
    bind_address "--bind-address" = "bindAddress";
    healthz_bind_address "--healthz-bind-address" = "healthzBindAddress";
    metrics_bind_address "--metrics-bind-address" = "metricsBindAddress";
    bind_address_hard_fail "--bind-address-hard-fail" = "bindAddressHardFail";
    oom_score_adj "--oom-score-adj" = "oomScoreAdj";
    proxy_mode "--proxy-mode" = "mode";
};
