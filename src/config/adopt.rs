//! What of a changed configuration applies while the agent runs.

use std::mem;

use kube_ipvs_core::model::Settings;

use super::{Config, LogConfig};

impl Config {
    /// This configuration with all of `new` that can be changed while the agent runs, and the
    /// fields that differ otherwise: they keep their value until the agent is started anew.
    ///
    /// What the node is called, where it listens and whom it asks is decided at the start. So is who
    /// carries connections: only then are virtual servers looked for that have some. What is
    /// set once for the whole machine (connection tracking, timeouts of IPVS) may need rights that
    /// only an init container has.
    #[must_use]
    pub fn adopt(&self, new: Self) -> (Self, Vec<&'static str>) {
        let is_same_carry =
            mem::discriminant(&self.settings.carry) == mem::discriminant(&new.settings.carry);
        let kept = [
            ("hostnameOverride", self.settings.node_name == new.settings.node_name),
            (
                "serviceProxyName",
                self.settings.service_proxy_name == new.settings.service_proxy_name,
            ),
            ("carry", is_same_carry),
            ("clientConnection.kubeconfig", self.source == new.source),
            ("healthzBindAddress", self.health_address == new.health_address),
            ("metricsBindAddress", self.metrics_address == new.metrics_address),
            ("bindAddressHardFail", self.bind_address_hard_fail == new.bind_address_hard_fail),
            ("ipvs.tcpTimeout", self.ipvs_timeouts.tcp == new.ipvs_timeouts.tcp),
            ("ipvs.tcpFinTimeout", self.ipvs_timeouts.tcp_fin == new.ipvs_timeouts.tcp_fin),
            ("ipvs.udpTimeout", self.ipvs_timeouts.udp == new.ipvs_timeouts.udp),
            ("conntrack", self.conntrack == new.conntrack),
            ("oomScoreAdj", self.oom_score_adj == new.oom_score_adj),
            (
                "trafficMetricsServices",
                self.traffic_metrics_services == new.traffic_metrics_services,
            ),
            ("logging.format", self.log.format == new.log.format),
        ];
        let differing = kept.into_iter().filter(|(_, is_same)| !is_same);
        let adopted = Self {
            settings: Settings {
                node_name: self.settings.node_name.clone(),
                service_proxy_name: self.settings.service_proxy_name.clone(),
                carry: if is_same_carry { &new.settings } else { &self.settings }.carry.clone(),
                ..new.settings
            },
            min_sync_period: new.min_sync_period,
            sync_period: new.sync_period,
            audit_period: new.audit_period,
            remove_kube_proxy: new.remove_kube_proxy,
            log: LogConfig { level: new.log.level, ..self.log.clone() },
            warnings: new.warnings,
            ..self.clone()
        };
        (adopted, differing.map(|(field, _)| field).collect())
    }
}
