//! Services, reduced to the fields that affect a node's kernel.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Control, Family, LabelHashes, Name, Protocol};

/// `namespace/name` of a Service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey(Name);

impl ServiceKey {
    /// Returns the key of the Service `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    /// Returns whether the key is `namespace/name`.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let rest = self.0.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        rest == Some(name)
    }

    /// Returns the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Returns the name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The endpoints that a client may reach (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Empty for an unnamed port. Endpoint slices refer to the port by its name.
    pub name: Name,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service that a proxy serves: neither headless nor `ExternalName`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    pub key: ServiceKey,
    /// `metadata.creationTimestamp` in Unix seconds, or 0. If two Services claim the same front
    /// end, the older gets it.
    pub created: i64,
    /// Label `service.kubernetes.io/service-proxy-name`: the proxy for this Service, if not the
    /// cluster's usual proxy.
    pub proxy_name: Option<Name>,
    /// `spec.clusterIPs` (or `spec.clusterIP`), at most one per family.
    pub cluster_ips: Box<[IpAddr]>,
    pub ports: Box<[ServicePort]>,
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress[].ip` with `ipMode` `VIP` or unset.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`, trimmed.
    pub source_ranges: Box<[IpNet]>,
    pub internal_policy: TrafficPolicy,
    pub external_policy: TrafficPolicy,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds` with `sessionAffinity: ClientIP`.
    pub affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort` of a load balancer Service with external policy Local.
    pub health_check_node_port: Option<u16>,
    pub labels: LabelHashes,
    /// From annotations; `None` without any.
    pub control: Option<Box<Control>>,
}

impl Service {
    /// Returns a Service with only a name.
    #[must_use]
    pub fn named(key: ServiceKey) -> Self {
        Self {
            key,
            created: 0,
            proxy_name: None,
            cluster_ips: [].into(),
            ports: [].into(),
            external_ips: [].into(),
            load_balancer_ips: [].into(),
            source_ranges: [].into(),
            internal_policy: TrafficPolicy::default(),
            external_policy: TrafficPolicy::default(),
            affinity_seconds: None,
            health_check_node_port: None,
            labels: LabelHashes::default(),
            control: None,
        }
    }

    /// Returns the ClusterIP of a family.
    #[must_use]
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Returns whether the Service has any front end other than ClusterIPs.
    #[must_use]
    pub fn is_externally_accessible(&self) -> bool {
        !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
            || self.ports.iter().any(|port| port.node_port.is_some())
    }
}
