//! The part of the configuration that decides the desired state.

use ipnet::IpNet;
use kube_ipvs_core::model::{
    Carry, InterfaceName, InterfaceNameError, Interfaces, LocalDetector, Name, NodePortAddresses,
    ParsePortsError, Ports, Scheduler, Settings, protected_node_ports, read_range,
};

use super::document::Origin;
use super::resolve::Resolver;
use super::{ConfigError, read};

const PORTS: &str = "protectedNodePorts";

impl Resolver<'_> {
    /// Errors are noted, and leave what the settings have.
    pub(super) fn settings(&mut self, settings: &mut Settings) {
        let mode = self.text("mode");
        if !matches!(mode, "" | "ipvs") {
            let what = format!("{mode:?} is not what this proxy is: it is of mode ipvs always");
            self.warn("mode", &what);
        }
        let name = Some(self.text("serviceProxyName").trim()).filter(|name| !name.is_empty());
        settings.service_proxy_name = name.map(Name::from);
        self.put(&mut settings.scheduler, self.scheduler());
        self.put(&mut settings.node_name, self.node_name());
        let ranges = self.ranges("serviceCIDRs", &self.list("serviceCIDRs"));
        self.put(&mut settings.service_cidrs, ranges);
        let carry = self.carry();
        self.put(&mut settings.carry, carry);
        self.put(&mut settings.protected_node_ports, self.protected_node_ports());
        let addresses = self.node_port_addresses();
        self.put(&mut settings.node_port_addresses, addresses);
        let detector = self.local_detector();
        self.put(&mut settings.local_detector, detector);
    }

    fn scheduler(&self) -> Result<Scheduler, ConfigError> {
        match self.text("ipvs.scheduler") {
            "" => Ok(Scheduler::default()),
            name => name.parse().map_err(|error| self.wrong("ipvs.scheduler", error)),
        }
    }

    fn protected_node_ports(&self) -> Result<Vec<Ports>, ConfigError> {
        if !self.given.values.contains_key(PORTS) {
            return Ok(protected_node_ports());
        }
        self.each(PORTS, |text| text.parse().map_err(|error: ParsePortsError| error.to_string()))
    }

    /// Reads each item of a list.
    fn each<T>(
        &self,
        field: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let listed = self.list(field);
        let items = read::all(listed.iter().map(|text| read(text.trim())));
        items.map_err(|reasons| self.wrong(field, reasons))
    }

    fn carry(&mut self) -> Result<Carry, ConfigError> {
        const INTERFACES: &str = "offloadInterfaces";
        let listed = self.list(INTERFACES);
        let carry = match self.text("carry") {
            "" | "front-ends" => Carry::FrontEnds,
            "all" => Carry::All,
            "offload" if listed.is_empty() => {
                let reason = "needed for carry offload: the links of the node and of its pods, such \
                              as [eth*, cali*]";
                return Err(self.wrong(INTERFACES, reason));
            }
            "offload" => {
                let read = |text: &str| {
                    text.parse().map_err(|error: InterfaceNameError| error.to_string())
                };
                return self.each(INTERFACES, read).map(Carry::Offload);
            }
            other => {
                let reason = format!("{other:?} is none: use front-ends, all or offload");
                return Err(self.wrong("carry", reason));
            }
        };
        if !listed.is_empty() {
            self.warn(INTERFACES, "not needed: only carry offload uses it");
        }
        Ok(carry)
    }

    /// Flag, file, environment, machine: the first that has one.
    fn node_name(&self) -> Result<Name, ConfigError> {
        let given = [self.flags.node_name.as_deref(), self.text_of("hostnameOverride")];
        let given = given.into_iter().chain(self.node_names.iter().map(Option::as_deref));
        let mut names = given.flatten().map(|name| name.trim().to_lowercase());
        names.find(|name| !name.is_empty()).map(Name::from).ok_or_else(|| {
            let reason = "the node has no name: give it, or set NODE_NAME".to_owned();
            ConfigError::Value { option: "--node-name".to_owned(), reason }
        })
    }

    fn node_port_addresses(&mut self) -> Result<NodePortAddresses, ConfigError> {
        const FIELD: &str = "nodePortAddresses";
        let mut listed = self.list(FIELD);
        listed.retain(|text| !text.trim().is_empty());
        let mut texts = Vec::new();
        let mut is_primary = false;
        for text in listed.iter().map(|text| text.trim()) {
            match text {
                "primary" => is_primary = true,
                "all" => texts.extend(["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
                "localhost" => self.warn(FIELD, "node ports are not served on localhost"),
                range => texts.push(range.to_owned()),
            }
        }
        match (is_primary, texts.is_empty()) {
            (_, true) if listed.is_empty() => Ok(self.node_ports_by_default()),
            (_, true) => Ok(NodePortAddresses::Primary),
            (false, false) => self.ranges(FIELD, &texts).map(NodePortAddresses::Ranges),
            (true, false) => {
                let reason = "\"primary\" cannot stand beside ranges: list the primary address";
                Err(self.wrong(FIELD, reason))
            }
        }
    }

    /// kube-proxy serves node ports at all addresses (`NewNodePortAddresses`), and in mode nftables at
    /// the primary ones (`platformApplyDefaults`). So does what is configured as kube-proxy is; a file
    /// that says nothing of kube-proxy's takes the latter.
    fn node_ports_by_default(&self) -> NodePortAddresses {
        match (&self.given.kube_proxy, self.text("mode")) {
            (Origin::Nowhere, _) | (_, "nftables") => NodePortAddresses::Primary,
            (Origin::Flags | Origin::Document { .. }, _) => NodePortAddresses::all(),
        }
    }

    fn local_detector(&mut self) -> Result<LocalDetector, ConfigError> {
        const FIELD: &str = "detectLocalMode";
        let texts = self.text("clusterCIDR").split(',').map(str::trim);
        let texts: Vec<_> = texts.filter(|text| !text.is_empty()).map(str::to_owned).collect();
        let needed = |field: &str, mode: &str| {
            let value = self.text(field);
            if value.is_empty() {
                let name = self.given.origin(FIELD).name(FIELD);
                return Err(self.wrong(field, format!("needed for {name} {mode}")));
            }
            let name: Result<InterfaceName, _> = value.parse();
            name.map_err(|error| self.wrong(field, error))
        };
        match self.text(FIELD) {
            "" if texts.is_empty() => Ok(LocalDetector::None),
            "ClusterCIDR" if texts.is_empty() => {
                let what =
                    "ClusterCIDR without a range: pods are not distinguished from other clients";
                self.warn(FIELD, what);
                Ok(LocalDetector::None)
            }
            "" | "ClusterCIDR" => {
                self.ranges("clusterCIDR", &texts).map(LocalDetector::ClusterCidr)
            }
            "NodeCIDR" => Ok(LocalDetector::NodeCidr),
            mode @ "BridgeInterface" => {
                let name = needed("detectLocal.bridgeInterface", mode)?;
                Ok(LocalDetector::Interfaces(Interfaces::Named(name)))
            }
            mode @ "InterfaceNamePrefix" => {
                let prefix = needed("detectLocal.interfaceNamePrefix", mode)?;
                Ok(LocalDetector::Interfaces(Interfaces::Prefixed(prefix)))
            }
            other => {
                let modes = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
                Err(self.wrong(FIELD, format!("{other:?} is none: use {modes}")))
            }
        }
    }

    fn ranges(&self, field: &str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
        let read = |text: &String| {
            let reason = || format!("{text:?} is not an address range such as 192.0.2.0/24");
            read_range(text).ok_or_else(reason)
        };
        read::all(texts.iter().map(read)).map_err(|reasons| self.wrong(field, reasons))
    }
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
        assert_eq!(read("auditPeriod: 0").unwrap().audit_period, None);

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
    fn the_carrier_of_connections_is_read() {
        let config = read("").unwrap();
        assert_eq!(config.settings.carry, Carry::FrontEnds);
        assert_eq!(config.ipvs_tcp_timeout, config.conntrack.tcp_established);
        let config = read("carry: all").unwrap();
        assert_eq!(config.settings.carry, Carry::All);
        assert_eq!(config.ipvs_tcp_timeout, Some(Duration::from_secs(900)));
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
