//! A Service of the table with its endpoints, as short as it can be written.

use std::net::IpAddr;

use kube_ipvs_core::model::{Family, Protocol, shadow_addresses};
use serde_json::Value;

use crate::lab::{Manifest, POD_PORTS, ServiceBuilder, SliceBuilder, endpoints, service};

const INTERNAL_POLICY: &str = "internalTrafficPolicy";

/// A Service with its endpoints. Its addresses follow from its place in the table.
pub(super) struct Row {
    number: u16,
    name: &'static str,
    /// The families that it has, in their order.
    pub(super) families: Vec<Family>,
    /// The protocols that it has, all at the same port.
    pub(super) protocols: Vec<Protocol>,
    /// The port at its own addresses.
    pub(super) port: u16,
    node_port: Option<u16>,
    target: u16,
    exposed: bool,
    fields: Vec<(&'static str, Value)>,
    edit: fn(ServiceBuilder) -> ServiceBuilder,
    endpoints: fn(SliceBuilder) -> SliceBuilder,
}

/// A Service with a ClusterIP alone: of both families, with TCP and UDP at port 80.
pub(super) fn inside(name: &'static str, endpoints: fn(SliceBuilder) -> SliceBuilder) -> Row {
    Row {
        number: 0,
        name,
        families: Family::BOTH.into(),
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        port: 80,
        node_port: None,
        target: POD_PORTS[0],
        exposed: false,
        fields: Vec::new(),
        edit: |service| service,
        endpoints,
    }
}

/// A Service that also has an external IP, a load balancer's IP and a node port.
pub(super) fn exposed(name: &'static str, endpoints: fn(SliceBuilder) -> SliceBuilder) -> Row {
    Row { exposed: true, ..inside(name, endpoints) }
}

impl Row {
    /// Gives the row its place in the table.
    pub(super) fn at(mut self, number: u16) -> Self {
        self.number = number;
        self
    }

    /// Of these families, in this order.
    pub(super) fn families(mut self, families: impl Into<Vec<Family>>) -> Self {
        self.families = families.into();
        self
    }

    /// With these protocols.
    pub(super) fn protocols(mut self, protocols: impl Into<Vec<Protocol>>) -> Self {
        self.protocols = protocols.into();
        self
    }

    /// At another port than 80.
    pub(super) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// At this node port.
    pub(super) fn node_port(mut self, number: u16) -> Self {
        self.node_port = Some(number);
        self
    }

    /// The port that endpoints listen on, if it is not that of the pods.
    pub(super) fn target(mut self, port: u16) -> Self {
        self.target = port;
        self
    }

    /// `internalTrafficPolicy: Local`.
    pub(super) fn internal_local(self) -> Self {
        self.field(INTERNAL_POLICY, "Local")
    }

    /// `externalTrafficPolicy: Local`.
    pub(super) fn external_local(self) -> Self {
        self.field("externalTrafficPolicy", "Local")
    }

    /// `loadBalancerSourceRanges`.
    pub(super) fn source_ranges(self, ranges: &[&str]) -> Self {
        self.field("loadBalancerSourceRanges", ranges)
    }

    /// `sessionAffinity: ClientIP`.
    pub(super) fn affinity(self) -> Self {
        self.field("sessionAffinity", "ClientIP")
    }

    /// Whatever else.
    pub(super) fn edit(mut self, edit: fn(ServiceBuilder) -> ServiceBuilder) -> Self {
        self.edit = edit;
        self
    }

    fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The Service and its slices.
    pub(super) fn objects(&self) -> Vec<Manifest> {
        let key = format!("differential/{}", self.name);
        let mut web = service(&key);
        for family in &self.families {
            web = web.cluster_ip(&self.cluster_ip(*family).to_string());
        }
        for protocol in &self.protocols {
            web = web.port_of(*protocol, protocol.name(), self.port);
            if self.exposed {
                web = web.node_port(self.node_port_number());
            }
        }
        if self.exposed {
            let of = |address: fn(&Self, Family) -> IpAddr| {
                self.families.iter().map(move |family| address(self, *family).to_string())
            };
            web = web.spec("externalIPs", of(Self::external_ip).collect::<Vec<_>>());
            for ip in of(Self::load_balancer_ip) {
                web = web.load_balancer_ip(&ip);
            }
        }
        for (name, value) in &self.fields {
            web = web.spec(name, value.clone());
        }
        let slices = self.families.iter().map(|family| {
            let name = format!("{}-{}", self.name, family.to_string().to_lowercase());
            let mut slice = endpoints(&key).named(&name).of_family(*family);
            for protocol in &self.protocols {
                slice = slice.port_of(*protocol, protocol.name(), self.target);
            }
            Manifest::from((self.endpoints)(slice))
        });
        std::iter::once((self.edit)(web).into()).chain(slices).collect()
    }

    /// Its own addresses of a family.
    pub(super) fn addresses(&self, family: Family) -> Vec<IpAddr> {
        let mut addresses = vec![self.cluster_ip(family)];
        if self.exposed {
            addresses.extend([self.external_ip(family), self.load_balancer_ip(family)]);
        }
        addresses
    }

    /// Shadow addresses that local clients are led to, past a ClusterIP of policy Local.
    pub(super) fn images(&self) -> Vec<IpAddr> {
        if !self.exposed || self.fields.iter().all(|(name, _)| *name != INTERNAL_POLICY) {
            return Vec::new();
        }
        self.families.iter().flat_map(|family| shadow_addresses(self.cluster_ip(*family))).collect()
    }

    /// The port at the node's addresses.
    pub(super) fn exposed_port(&self) -> Option<u16> {
        self.exposed.then(|| self.node_port_number())
    }

    fn node_port_number(&self) -> u16 {
        self.node_port.unwrap_or(31_000 + self.number)
    }

    fn cluster_ip(&self, family: Family) -> IpAddr {
        self.address(family, "10.96.20.", "fd00:96::2:")
    }

    fn external_ip(&self, family: Family) -> IpAddr {
        self.address(family, "198.51.100.", "2001:db8:51::")
    }

    fn load_balancer_ip(&self, family: Family) -> IpAddr {
        self.address(family, "203.0.113.", "2001:db8:113::")
    }

    fn address(&self, family: Family, v4: &str, v6: &str) -> IpAddr {
        let text = match family {
            Family::V4 => format!("{v4}{}", self.number),
            Family::V6 => format!("{v6}{:x}", self.number),
        };
        text.parse().expect("an address")
    }
}
