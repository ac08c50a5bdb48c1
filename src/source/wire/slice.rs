//! EndpointSlice objects.

use std::collections::HashSet;

use serde::Deserialize;
use smallvec::SmallVec;

use super::address::{port, usable_ip};
use super::meta::or_default;
use super::service::protocol;
use super::{Meta, Rejection, Rejections, SERVICE_NAME};
use crate::model::{
    Endpoint, EndpointPort, EndpointSlice, Family, Interner, Name, ServiceKey, Shared, SliceKey,
    Topology,
};

/// An EndpointSlice, as far as it matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceObject {
    /// `metadata`.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    address_type: String,
    ports: Option<Vec<Port>>,
    endpoints: Option<Vec<EndpointObject>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndpointObject {
    /// Kubernetes gives those after the first no meaning.
    addresses: Option<SmallVec<[String; 1]>>,
    conditions: Option<Conditions>,
    node_name: Option<String>,
    hints: Option<HintsObject>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HintsObject {
    for_nodes: Option<Vec<Named>>,
    for_zones: Option<Vec<Named>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "or_default")]
    name: String,
}

impl SliceObject {
    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> SliceKey {
        SliceKey::new(self.metadata.namespace(), &self.metadata.name)
    }

    /// Names ports without a name `""`, as the API server does before it stores a slice.
    pub fn default_port_names(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
        }
    }

    /// The slice as the model has it, `None` where it is of no use: of a headless Service, of names
    /// instead of addresses, or naming no Service. What cannot be used is left out and reported.
    ///
    /// Whose proxy serves it is for the Service to say: its slices follow a change of that label
    /// only after a while.
    #[must_use]
    pub fn convert(&self, names: &mut Interner) -> (Option<EndpointSlice>, Vec<Rejection>) {
        let meta = &self.metadata;
        let mut rejections = Rejections::of("EndpointSlice", meta.namespace(), &meta.name);
        let slice = self.slice(names, &mut rejections);
        (slice, rejections.finish())
    }

    fn slice(&self, names: &mut Interner, rejections: &mut Rejections) -> Option<EndpointSlice> {
        let meta = &self.metadata;
        if meta.labels.headless.is_some() {
            return None;
        }
        let family = match self.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            "FQDN" => return None,
            other => {
                rejections.add("addressType", format!("{other:?} is not IPv4, IPv6 or FQDN"));
                return None;
            }
        };
        let service = meta.labels.service_name.as_deref();
        let Some(service) = service.filter(|name| !name.is_empty()) else {
            let reason = "the label that names the Service is missing: ignored";
            rejections.add(format_args!("metadata.labels[{SERVICE_NAME}]"), reason);
            return None;
        };
        Some(EndpointSlice {
            key: self.key(),
            service: ServiceKey::new(meta.namespace(), service),
            family,
            ports: self.ports(names, rejections),
            endpoints: self.endpoints(family, names, rejections),
            triggered: meta.annotations.triggered(),
        })
    }

    /// Ports without a name or a number say nothing about where a Service port leads.
    fn ports(&self, names: &mut Interner, rejections: &mut Rejections) -> Shared<[EndpointPort]> {
        let mut ports: SmallVec<[EndpointPort; 2]> = SmallVec::new();
        let several = self.ports.as_ref().is_some_and(|ports| ports.len() > 1);
        let mut taken = HashSet::new();
        for (index, object) in self.ports.iter().flatten().enumerate() {
            let (Some(name), Some(number)) = (&object.name, object.port) else { continue };
            if number == 0 {
                continue;
            }
            let field = format_args!("ports[{index}]");
            let number = rejections.accept(format_args!("{field}.port"), port(number));
            let protocol = protocol(object.protocol.as_deref());
            let protocol = rejections.accept(format_args!("{field}.protocol"), protocol);
            let (Some(port), Some(protocol)) = (number, protocol) else { continue };
            let port = EndpointPort { name: names.intern(name), protocol, port };
            if several && !taken.insert((Name::clone(&port.name), protocol)) {
                rejections.add(field, "an earlier port has the same name: ignored");
                continue;
            }
            ports.push(port);
        }
        names.share_ports(&ports)
    }

    fn endpoints(
        &self,
        family: Family,
        names: &mut Interner,
        rejections: &mut Rejections,
    ) -> Box<[Endpoint]> {
        let mut endpoints = Vec::new();
        for (index, object) in self.endpoints.iter().flatten().enumerate() {
            let Some(text) = object.addresses.as_ref().and_then(|all| all.first()) else {
                continue;
            };
            let address = usable_ip(text).and_then(|ip| match Family::of(ip) {
                of if of == family => Ok(ip),
                _ => Err(format!("{ip} is not an {family} address")),
            });
            let field = format_args!("endpoints[{index}].addresses[0]");
            if let Some(address) = rejections.accept(field, address) {
                endpoints.push(object.convert(address, names));
            }
        }
        endpoints.into()
    }
}

impl EndpointObject {
    fn convert(&self, address: std::net::IpAddr, names: &mut Interner) -> Endpoint {
        let conditions = self.conditions.unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        Endpoint {
            address,
            ready,
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            topology: self.topology(names),
        }
    }

    fn topology(&self, names: &mut Interner) -> Shared<Topology> {
        if let (Some(node), None) = (&self.node_name, &self.hints) {
            return names.on_node(node);
        }
        let node = self.node_name.as_deref().map(|name| names.intern(name));
        let mut hinted = |hints: fn(&HintsObject) -> &Option<Vec<Named>>| -> Box<[Name]> {
            let named = self.hints.iter().flat_map(hints).flatten();
            named.map(|named| names.intern(&named.name)).collect()
        };
        let for_nodes = hinted(|hints| &hints.for_nodes);
        let for_zones = hinted(|hints| &hints.for_zones);
        names.share(Topology { node, for_nodes, for_zones })
    }
}
