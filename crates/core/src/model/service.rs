//! Services, reduced to the fields that decide what a node's kernel holds.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Family, Name, Protocol};

/// `namespace/name` of a Service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey(Name);

impl ServiceKey {
    /// The key of the Service `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }

    /// Whether it is that one's.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let rest = self.0.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/'));
        rest == Some(name)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name within the namespace.
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

/// Which endpoints a client may be sent to (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrafficPolicy {
    /// Any endpoint of the cluster.
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

/// One entry of `spec.ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// `name`, empty where the port has none. Endpoint slices refer to the port by it.
    pub name: Name,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `nodePort`, where there is one.
    pub node_port: Option<u16>,
}

/// A Service that some proxy serves: neither headless nor `ExternalName`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// `metadata.namespace` and `metadata.name`.
    pub key: ServiceKey,
    /// `metadata.creationTimestamp` in Unix seconds, 0 where there is none. Of two Services that
    /// claim the same front end, the older has it.
    pub created: i64,
    /// Label `service.kubernetes.io/service-proxy-name`: the proxy that is to serve it, if it is not
    /// the cluster's usual one.
    pub proxy_name: Option<Name>,
    /// `spec.clusterIPs` (or `spec.clusterIP`), at most one of each family.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.ports`.
    pub ports: Box<[ServicePort]>,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is `VIP` or unset.
    pub load_balancer_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`, blanks trimmed.
    pub source_ranges: Box<[IpNet]>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds` where `sessionAffinity` is `ClientIP`.
    pub affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort` of a load balancer Service with external policy Local.
    pub health_check_node_port: Option<u16>,
}

impl Service {
    /// A Service that has nothing but its name.
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
        }
    }

    /// The ClusterIP of a family.
    #[must_use]
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips.iter().copied().find(|ip| Family::of(*ip) == family)
    }

    /// Whether anything but a ClusterIP leads to this Service.
    #[must_use]
    pub fn is_externally_accessible(&self) -> bool {
        !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
            || self.ports.iter().any(|port| port.node_port.is_some())
    }
}
