//! The part of the configuration that decides the desired state.

use std::time::Duration;

use ipnet::IpNet;
use kube_ipvs_core::model::{
    Carry, InterfaceName, InterfaceNameError, Interfaces, LocalDetector, Name, NodePortAddresses,
    ParsePortsError, Ports, Scheduler, Settings, protected_node_ports, read_range,
};
use serde_json::Value;

use super::ConfigError;
use super::document::Origin;
use super::duration;
use super::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn settings(&mut self) -> Result<Settings, ConfigError> {
        let mode = self.kube_proxy.mode.as_deref().unwrap_or_default();
        if !matches!(mode, "" | "ipvs") {
            let what = format!("{mode:?} is not what this proxy is: it is of mode ipvs always");
            self.warn("mode", &what);
        }
        let ipvs = self.kube_proxy.ipvs.as_ref();
        let scheduler = match ipvs.and_then(|ipvs| ipvs.scheduler.as_deref()) {
            None | Some("") => Scheduler::default(),
            Some(name) => {
                name.parse().map_err(|error| self.origin.wrong("ipvs.scheduler", error))?
            }
        };
        let iptables = self.kube_proxy.iptables.as_ref();
        let masquerade_all = iptables.and_then(|iptables| iptables.masquerade_all);
        let own = &self.own;
        let service_cidrs = own.content.service_cidrs.iter().flatten();
        Ok(Settings {
            node_name: self.node_name()?,
            scheduler,
            masquerade_all: masquerade_all.unwrap_or(false),
            service_cidrs: ranges(&own.origin, "serviceCIDRs", service_cidrs)?,
            service_proxy_name: own
                .content
                .service_proxy_name
                .as_deref()
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .map(Name::from),
            drain_period: self.drain_period()?,
            carry: self.carry()?,
            protected_node_ports: self.protected_node_ports()?,
            node_port_addresses: self.node_port_addresses()?,
            local_detector: self.local_detector()?,
        })
    }

    fn drain_period(&self) -> Result<Duration, ConfigError> {
        let text = self.own.content.drain_period.as_deref();
        let period = text.map(duration::parse).transpose();
        let period = period.map_err(|reason| self.own.origin.wrong("drainPeriod", reason))?;
        Ok(period.unwrap_or(Settings::DRAIN_PERIOD))
    }

    fn protected_node_ports(&self) -> Result<Vec<Ports>, ConfigError> {
        let Some(listed) = &self.own.content.protected_node_ports else {
            return Ok(protected_node_ports());
        };
        let wrong =
            |error: ParsePortsError| self.own.origin.wrong("protectedNodePorts", error.to_string());
        // A port alone is a number to YAML.
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        listed.iter().map(|value| text(value).trim().parse().map_err(wrong)).collect()
    }

    fn carry(&mut self) -> Result<Carry, ConfigError> {
        const INTERFACES: &str = "offloadInterfaces";
        let own = &self.own;
        let listed = own.content.offload_interfaces.as_deref().unwrap_or_default();
        let carry = match own.content.carry.as_deref().unwrap_or_default() {
            "" | "front-ends" => Carry::FrontEnds,
            "all" => Carry::All,
            "offload" if listed.is_empty() => {
                let reason = "needed for carry offload: the links of the node and of its pods, such \
                              as [eth*, cali*]";
                return Err(own.origin.wrong(INTERFACES, reason));
            }
            "offload" => {
                let read = |text: &String| {
                    text.trim().parse().map_err(|error: InterfaceNameError| {
                        own.origin.wrong(INTERFACES, error.to_string())
                    })
                };
                return listed.iter().map(read).collect::<Result<_, _>>().map(Carry::Offload);
            }
            other => {
                let reason = format!("{other:?} is none: use front-ends, all or offload");
                return Err(own.origin.wrong("carry", reason));
            }
        };
        if !listed.is_empty() {
            let name = own.origin.name(INTERFACES);
            self.warnings.push(format!("{name}: not needed: only carry offload uses it"));
        }
        Ok(carry)
    }

    /// Flag, file, environment, machine: the first that has one.
    fn node_name(&self) -> Result<Name, ConfigError> {
        let given = [
            &self.flags.node_name,
            &self.kube_proxy.hostname_override,
            &self.surroundings.node_name,
            &self.surroundings.host_name,
        ];
        let mut names = given.into_iter().flatten().map(|name| name.trim().to_lowercase());
        names.find(|name| !name.is_empty()).map(Name::from).ok_or_else(|| {
            let reason = "the node has no name: give it, or set NODE_NAME".to_owned();
            ConfigError::Value { option: "--node-name".to_owned(), reason }
        })
    }

    fn node_port_addresses(&mut self) -> Result<NodePortAddresses, ConfigError> {
        const FIELD: &str = "nodePortAddresses";
        let mut listed = self.kube_proxy.node_port_addresses.clone().unwrap_or_default();
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
            (false, false) => Ok(NodePortAddresses::Ranges(ranges(&self.origin, FIELD, &texts)?)),
            (true, false) => {
                let reason = "\"primary\" cannot stand beside ranges: list the primary address";
                Err(self.origin.wrong(FIELD, reason))
            }
        }
    }

    /// kube-proxy serves node ports at all addresses (`NewNodePortAddresses`), and in mode nftables at
    /// the primary ones (`platformApplyDefaults`). So does what is configured as kube-proxy is; a file
    /// that says nothing of kube-proxy's takes the latter.
    fn node_ports_by_default(&self) -> NodePortAddresses {
        match (&self.origin, self.kube_proxy.mode.as_deref()) {
            (Origin::Nowhere, _) | (_, Some("nftables")) => NodePortAddresses::Primary,
            (Origin::Flags | Origin::Document { .. }, _) => NodePortAddresses::all(),
        }
    }

    fn local_detector(&mut self) -> Result<LocalDetector, ConfigError> {
        const FIELD: &str = "detectLocalMode";
        let cluster_cidr = self.kube_proxy.cluster_cidr.as_deref().unwrap_or_default();
        let texts = cluster_cidr.split(',').map(str::trim).filter(|text| !text.is_empty());
        let texts: Vec<_> = texts.map(str::to_owned).collect();
        let detect = self.kube_proxy.detect_local.clone().unwrap_or_default();
        let needed = |value: Option<String>, field: &str, mode: &str| {
            let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
                let reason = format!("needed for {} {mode}", self.origin.name(FIELD));
                self.origin.wrong(field, reason)
            })?;
            let name: Result<InterfaceName, _> = value.parse();
            name.map_err(|error| self.origin.wrong(field, error.to_string()))
        };
        match self.kube_proxy.detect_local_mode.as_deref().unwrap_or_default() {
            "" if texts.is_empty() => Ok(LocalDetector::None),
            "ClusterCIDR" if texts.is_empty() => {
                let what = "ClusterCIDR without a range: pods are not told from other clients";
                self.warn(FIELD, what);
                Ok(LocalDetector::None)
            }
            "" | "ClusterCIDR" => {
                Ok(LocalDetector::ClusterCidr(ranges(&self.origin, "clusterCIDR", &texts)?))
            }
            "NodeCIDR" => Ok(LocalDetector::NodeCidr),
            mode @ "BridgeInterface" => {
                let field = "detectLocal.bridgeInterface";
                let name = needed(detect.bridge_interface, field, mode)?;
                Ok(LocalDetector::Interfaces(Interfaces::Named(name)))
            }
            mode @ "InterfaceNamePrefix" => {
                let field = "detectLocal.interfaceNamePrefix";
                let prefix = needed(detect.interface_name_prefix, field, mode)?;
                Ok(LocalDetector::Interfaces(Interfaces::Prefixed(prefix)))
            }
            other => {
                let modes = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
                Err(self.origin.wrong(FIELD, format!("{other:?} is none: use {modes}")))
            }
        }
    }
}

fn ranges<'a>(
    origin: &Origin,
    field: &str,
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<IpNet>, ConfigError> {
    let read = |text: &String| {
        read_range(text).ok_or_else(|| {
            origin.wrong(field, format!("{text:?} is not an address range such as 192.0.2.0/24"))
        })
    };
    texts.into_iter().map(read).collect()
}
