//! `KubeIpvsConfiguration` (`kube-ipvs.io/v1alpha1`): what kube-proxy's file has no field for.

use serde::Deserialize;
use serde_json::Value;

pub(super) const API_VERSION: &str = "kube-ipvs.io/v1alpha1";
pub(super) const KIND: &str = "KubeIpvsConfiguration";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(dead_code, reason = "known fields are read so as not to be unknown")]
pub(super) struct KubeIpvsConfiguration {
    api_version: Value,
    kind: Value,
    /// Ranges that ClusterIPs come from, beside those of ServiceCIDR objects. Default: none.
    #[serde(rename = "serviceCIDRs")]
    pub(super) service_cidrs: Option<Vec<String>>,
    /// How often everything is read back from the kernel and put right, `0s` for never.
    /// Default: 5m.
    pub(super) audit_period: Option<String>,
    /// Serves the Services whose label `service.kubernetes.io/service-proxy-name` has this value,
    /// instead of those without the label. Default: none.
    pub(super) service_proxy_name: Option<String>,
    /// How long established connections to an endpoint that has left may go on, `0s` for not at
    /// all. Default: 5m.
    pub(super) drain_period: Option<String>,
    /// Which connections connection tracking carries: `front-ends`, `all` or `offload`.
    /// Default: front-ends.
    pub(super) carry: Option<String>,
    /// The interfaces between which `offload` carries connections, such as `eth0` or `cali*`.
    /// Default: none.
    pub(super) offload_interfaces: Option<Vec<String>>,
    /// Whether what kube-proxy has left in the kernel is removed once everything of ours is there.
    /// Default: false.
    pub(super) remove_kube_proxy: Option<bool>,
    /// Of how many Services at most connections, packets and bytes are among the metrics.
    /// Default: 0.
    pub(super) traffic_metrics_services: Option<usize>,
}
