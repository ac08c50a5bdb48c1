//! `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`), as kubeadm writes it.
//!
//! Fields that mean something here are read; those of kube-proxy's other modes and of its own
//! inner workings are known, so that they pass without a warning; anything else is unknown.
//! Durations stay text until they are resolved, where their error can name flag or field.

use serde::Deserialize;
use serde_json::Value;

use super::ProxyFlags;

pub(super) const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
pub(super) const KIND: &str = "KubeProxyConfiguration";

/// A field that is known and means nothing here, or is read elsewhere.
type Known = Value;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "known fields are read so as not to be unknown")]
pub(super) struct KubeProxyConfiguration {
    api_version: Known,
    kind: Known,
    config_sync_period: Known,
    enable_profiling: Known,
    feature_gates: Known,
    nftables: Known,
    port_range: Known,
    resource_container: Known,
    show_hidden_metrics_for_version: Known,
    udp_idle_timeout: Known,
    windows_run_as_service: Known,
    winkernel: Known,
    pub(super) bind_address: Option<String>,
    pub(super) bind_address_hard_fail: Option<bool>,
    pub(super) client_connection: Option<ClientConnection>,
    #[serde(rename = "clusterCIDR")]
    pub(super) cluster_cidr: Option<String>,
    pub(super) conntrack: Option<ConntrackFields>,
    pub(super) detect_local: Option<DetectLocal>,
    pub(super) detect_local_mode: Option<String>,
    pub(super) healthz_bind_address: Option<String>,
    pub(super) hostname_override: Option<String>,
    pub(super) iptables: Option<Iptables>,
    pub(super) ipvs: Option<IpvsFields>,
    pub(super) logging: Option<Logging>,
    pub(super) metrics_bind_address: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) node_port_addresses: Option<Vec<String>>,
    pub(super) oom_score_adj: Option<i32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "as above")]
pub(super) struct ClientConnection {
    accept_content_types: Known,
    burst: Known,
    content_type: Known,
    qps: Known,
    pub(super) kubeconfig: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ConntrackFields {
    pub(super) max_per_core: Option<u32>,
    pub(super) min: Option<u32>,
    pub(super) tcp_be_liberal: Option<bool>,
    pub(super) tcp_close_wait_timeout: Option<String>,
    pub(super) tcp_established_timeout: Option<String>,
    pub(super) udp_stream_timeout: Option<String>,
    pub(super) udp_timeout: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DetectLocal {
    pub(super) bridge_interface: Option<String>,
    pub(super) interface_name_prefix: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "as above")]
pub(super) struct Iptables {
    localhost_node_ports: Known,
    masquerade_bit: Known,
    min_sync_period: Known,
    #[serde(rename = "snatNodeInternalIP")]
    snat_node_internal_ip: Known,
    sync_period: Known,
    /// kube-proxy reads this in mode ipvs, too.
    pub(super) masquerade_all: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "as above")]
pub(super) struct IpvsFields {
    /// Our tables always answer ARP as if this were set.
    #[serde(rename = "strictARP")]
    strict_arp: Option<bool>,
    #[serde(rename = "excludeCIDRs")]
    pub(super) exclude_cidrs: Option<Vec<String>>,
    pub(super) min_sync_period: Option<String>,
    pub(super) scheduler: Option<String>,
    pub(super) sync_period: Option<String>,
    pub(super) tcp_fin_timeout: Option<String>,
    pub(super) tcp_timeout: Option<String>,
    pub(super) udp_timeout: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "as above")]
pub(super) struct Logging {
    flush_frequency: Known,
    options: Known,
    vmodule: Known,
    pub(super) format: Option<String>,
    pub(super) verbosity: Option<u32>,
}

/// The flags as the file would say them.
impl From<&ProxyFlags> for KubeProxyConfiguration {
    fn from(flags: &ProxyFlags) -> Self {
        let flags = flags.clone();
        let kubeconfig = flags.kubeconfig.map(|path| path.to_string_lossy().into_owned());
        Self {
            bind_address: flags.bind_address,
            bind_address_hard_fail: flags.bind_address_hard_fail,
            client_connection: Some(ClientConnection { kubeconfig, ..Default::default() }),
            cluster_cidr: flags.cluster_cidr,
            conntrack: Some(ConntrackFields {
                max_per_core: flags.conntrack_max_per_core,
                min: flags.conntrack_min,
                tcp_be_liberal: flags.conntrack_tcp_be_liberal,
                tcp_close_wait_timeout: flags.conntrack_tcp_timeout_close_wait,
                tcp_established_timeout: flags.conntrack_tcp_timeout_established,
                udp_stream_timeout: flags.conntrack_udp_timeout_stream,
                udp_timeout: flags.conntrack_udp_timeout,
            }),
            detect_local: Some(DetectLocal {
                bridge_interface: flags.pod_bridge_interface,
                interface_name_prefix: flags.pod_interface_name_prefix,
            }),
            detect_local_mode: flags.detect_local_mode,
            healthz_bind_address: flags.healthz_bind_address,
            iptables: Some(Iptables { masquerade_all: flags.masquerade_all, ..Default::default() }),
            ipvs: Some(IpvsFields {
                exclude_cidrs: flags.ipvs_exclude_cidrs,
                min_sync_period: flags.ipvs_min_sync_period,
                scheduler: flags.ipvs_scheduler,
                sync_period: flags.ipvs_sync_period,
                tcp_fin_timeout: flags.ipvs_tcpfin_timeout,
                tcp_timeout: flags.ipvs_tcp_timeout,
                udp_timeout: flags.ipvs_udp_timeout,
                ..Default::default()
            }),
            metrics_bind_address: flags.metrics_bind_address,
            mode: flags.proxy_mode,
            node_port_addresses: flags.nodeport_addresses,
            oom_score_adj: flags.oom_score_adj,
            ..Self::default()
        }
    }
}
