//! EndpointSlice objects.

use std::collections::HashSet;
use std::net::IpAddr;

use kube_ipvs_core::model::{
    Change, Endpoint, EndpointPort, EndpointSlice, Event, Family, Interner, Name, PodNames,
    ServiceKey, Shared, SliceKey, Topology,
};
use prost::Message;
use serde::Deserialize;
use smallvec::SmallVec;

use super::address::{port, protocol, usable_ip};
use super::meta::{bytes, or_default};
use super::{HEADLESS, Meta, Rejections, Resource, SERVICE_NAME};
use crate::control::{SLICE_WEIGHT, SLICE_WEIGHT_ALIAS, slice_weight};

/// The relevant part of an EndpointSlice.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "1")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<EndpointObject>,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "3")]
    ports: Vec<SlicePortObject>,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "4")]
    address_type: String,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct SlicePortObject {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "2")]
    protocol: String,
    #[prost(int64, optional, tag = "3")]
    port: Option<i64>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct EndpointObject {
    /// Kubernetes gives further addresses no meaning.
    #[serde(deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "1")]
    addresses: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "2")]
    conditions: Conditions,
    #[prost(message, optional, tag = "4")]
    target_ref: Option<TargetObject>,
    #[prost(string, optional, tag = "6")]
    node_name: Option<String>,
    #[prost(string, optional, tag = "7")]
    zone: Option<String>,
    #[prost(message, optional, tag = "8")]
    hints: Option<HintsObject>,
}

/// An `ObjectReference`. Its namespace is the slice's. The API server does not validate it: invalid
/// UTF-8 must not invalidate the object.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct TargetObject {
    #[serde(deserialize_with = "bytes")]
    #[prost(bytes = "vec", tag = "1")]
    kind: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    #[prost(bytes = "vec", tag = "3")]
    name: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Deserialize, Message)]
#[serde(default)]
struct Conditions {
    #[prost(bool, optional, tag = "1")]
    ready: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    serving: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    terminating: Option<bool>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct HintsObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "1")]
    for_zones: Vec<Named>,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "2")]
    for_nodes: Vec<Named>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct Named {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    name: String,
}

impl Resource for SliceObject {
    type Key = SliceKey;
    type Value = EndpointSlice;

    const KIND: &'static str = "EndpointSlice";
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";
    const IS_NAMESPACED: bool = true;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }

    fn set_defaults(&mut self) {
        for port in &mut self.ports {
            port.name.get_or_insert_default();
        }
    }

    /// `None` for a slice of a headless Service, with names instead of addresses, or without a
    /// Service. The Service determines its proxy: the label on its slices follows a change with a
    /// delay.
    fn value(
        &self,
        names: &mut Interner,
        rejections: &mut Rejections<'_>,
    ) -> Option<EndpointSlice> {
        let meta = &self.metadata;
        if meta.label(HEADLESS).is_some() {
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
        let service = meta.label(SERVICE_NAME);
        let Some(service) = service.filter(|name| !name.is_empty()) else {
            let reason = "the label that names the Service is missing: ignored";
            rejections.add(format_args!("metadata.labels[{SERVICE_NAME}]"), reason);
            return None;
        };
        let weight = self.weight(rejections);
        let mut slice = EndpointSlice {
            key: Self::key(meta),
            service: ServiceKey::new(meta.namespace(), service),
            family,
            ports: self.ports(names, rejections),
            endpoints: Box::default(),
            pods: PodNames::default(),
            triggered: meta.triggered(),
        };
        slice.set_endpoints(self.endpoints(family, weight, names, rejections));
        Some(slice)
    }

    fn key(metadata: &Meta) -> SliceKey {
        SliceKey::new(metadata.namespace(), &metadata.name)
    }

    fn event(change: Change<SliceKey, EndpointSlice>) -> Event {
        Event::Slice(change)
    }
}

impl SliceObject {
    /// The endpoints' weight; 1 without an annotation, or with an invalid one.
    fn weight(&self, rejections: &mut Rejections) -> u16 {
        let annotation = |name| Some((name, self.metadata.annotation(name)?));
        let weight = annotation(SLICE_WEIGHT).or_else(|| annotation(SLICE_WEIGHT_ALIAS));
        let weight = weight.and_then(|(name, text)| {
            rejections.accept(format_args!("metadata.annotations[{name}]"), slice_weight(text))
        });
        weight.unwrap_or(1)
    }

    /// Ports without a name or a number do not belong to a Service port.
    fn ports(&self, names: &mut Interner, rejections: &mut Rejections) -> Shared<[EndpointPort]> {
        let mut ports: SmallVec<[EndpointPort; 2]> = SmallVec::new();
        let several = self.ports.len() > 1;
        let mut taken = HashSet::new();
        for (index, object) in self.ports.iter().enumerate() {
            let (Some(name), Some(number)) = (&object.name, object.port) else { continue };
            if number == 0 {
                continue;
            }
            let field = format_args!("ports[{index}]");
            let number = rejections.accept(format_args!("{field}.port"), port(number));
            let protocol = protocol(&object.protocol);
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

    /// The endpoints with the names of their pods.
    fn endpoints(
        &self,
        family: Family,
        weight: u16,
        names: &mut Interner,
        rejections: &mut Rejections,
    ) -> Vec<(Endpoint, Option<&str>)> {
        let mut endpoints = Vec::with_capacity(self.endpoints.len());
        for (index, object) in self.endpoints.iter().enumerate() {
            let Some(text) = object.addresses.first() else { continue };
            let address = usable_ip(text).and_then(|ip| match Family::of(ip) {
                of if of == family => Ok(ip),
                _ => Err(format!("{ip} is not an {family} address")),
            });
            let field = format_args!("endpoints[{index}].addresses[0]");
            if let Some(address) = rejections.accept(field, address) {
                endpoints.push((object.convert(address, weight, names), object.pod()));
            }
        }
        endpoints
    }
}

impl EndpointObject {
    fn convert(&self, address: IpAddr, weight: u16, names: &mut Interner) -> Endpoint {
        let conditions = self.conditions;
        Endpoint {
            address,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            weight,
            topology: self.topology(names),
        }
    }

    fn pod(&self) -> Option<&str> {
        let pod = self.target_ref.as_ref().filter(|it| it.kind == b"Pod" && !it.name.is_empty());
        pod.and_then(|it| str::from_utf8(&it.name).ok())
    }

    fn topology(&self, names: &mut Interner) -> Shared<Topology> {
        if let (Some(node), None) = (&self.node_name, &self.hints) {
            return names.on_node(node, self.zone.as_deref());
        }
        let node = self.node_name.as_deref().map(|name| names.intern(name));
        let zone = self.zone.as_deref().map(|name| names.intern(name));
        let mut hinted = |hints: fn(&HintsObject) -> &Vec<Named>| -> Box<[Name]> {
            let named = self.hints.iter().flat_map(hints);
            named.map(|named| names.intern(&named.name)).collect()
        };
        let for_nodes = hinted(|hints| &hints.for_nodes);
        let for_zones = hinted(|hints| &hints.for_zones);
        names.share(Topology { node, zone, for_nodes, for_zones })
    }
}
