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
    /// How often at least everything is read back from the kernel and put right, `0s` for never.
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
    /// Ports of the node's own addresses that no external or load balancer IP takes, such as
    /// `22/tcp`. Default: those of [`kube_ipvs_core::model::protected_node_ports`].
    pub(super) protected_node_ports: Option<Vec<Value>>,
    /// Whether what kube-proxy has left in the kernel is removed once everything of ours is there.
    /// Default: false.
    pub(super) remove_kube_proxy: Option<bool>,
    /// Of how many Services at most connections, packets and bytes are among the metrics.
    /// Default: 0.
    pub(super) traffic_metrics_services: Option<usize>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use kube_ipvs_core::model::{Carry, protected_node_ports};

    use crate::config::tests::{KUBEADM, with_file};
    use crate::config::write;
    use crate::config::{Config, ConfigError};

    const HEAD: &str = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration";

    /// The configuration by a file of these lines alone.
    fn read(lines: &str) -> Result<Config, ConfigError> {
        with_file(&format!("{HEAD}\n{lines}\n"), "")
    }

    #[test]
    fn our_own_document_is_read() {
        let text = format!("{KUBEADM}---\n{HEAD}\nserviceCIDRs: [10.96.0.1/12]\nauditPeriod: 0s\n");
        let config = with_file(&text, "").unwrap();
        assert_eq!(config.settings.service_cidrs, ["10.96.0.0/12".parse().unwrap()]);
        assert_eq!(config.audit_period, None);

        let error = read("auditPeriod: often").unwrap_err().to_string();
        assert!(error.starts_with("config.conf: document 1: auditPeriod: \"often\""), "{error}");
    }

    #[test]
    fn protected_ports_are_read() {
        assert_eq!(read("").unwrap().settings.protected_node_ports, protected_node_ports());
        let config = read("protectedNodePorts: [22, 2379-2380/tcp, 8472/udp]").unwrap();
        let ports = ["22/tcp", "2379-2380/tcp", "8472/udp"].map(|it| it.parse().unwrap());
        assert_eq!(config.settings.protected_node_ports, ports);
        assert_eq!(with_file(&write(&config), "").unwrap(), config);
        assert_eq!(read("protectedNodePorts: []").unwrap().settings.protected_node_ports, []);
        let error = read("protectedNodePorts: [ssh]").unwrap_err().to_string();
        let expected = "config.conf: document 1: protectedNodePorts: \"ssh\" is neither";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn who_carries_connections_is_read() {
        let config = read("").unwrap();
        assert_eq!(config.settings.carry, Carry::FrontEnds);
        assert_eq!(config.ipvs_timeouts.tcp, config.conntrack.tcp_established);
        let config = read("carry: all").unwrap();
        assert_eq!(config.settings.carry, Carry::All);
        assert_eq!(config.ipvs_timeouts.tcp, Some(Duration::from_secs(900)));
        let config = read("carry: offload\noffloadInterfaces: [eth0, cali*]").unwrap();
        let links = ["eth0", "cali*"].map(|link| link.parse().unwrap()).to_vec();
        assert_eq!(config.settings.carry, Carry::Offload(links));
        assert_eq!(with_file(&write(&config), "").unwrap(), config);

        let warnings = read("carry: all\noffloadInterfaces: [eth0]").unwrap().warnings;
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.ends_with("offloadInterfaces: not needed: only carry offload uses it"));
        for (lines, reason) in [
            ("carry: some", "carry: \"some\" is none"),
            ("carry: offload", "offloadInterfaces: needed for carry offload"),
            (
                "carry: offload\noffloadInterfaces: [a/b]",
                "offloadInterfaces: \"a/b\" is not an interface name",
            ),
        ] {
            let error = read(lines).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.conf: document 1: {reason}")), "{error}");
        }
    }
}
