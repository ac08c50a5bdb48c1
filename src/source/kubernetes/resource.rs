//! The kinds of watched objects.

use kube_ipvs_core::model::{
    Change, EndpointSlice, Event, Interner, Name, Node, Service, ServiceCidr, ServiceKey, SliceKey,
};
use prost::Message;
use serde::de::DeserializeOwned;

use crate::source::wire::{
    HEADLESS, Meta, NodeObject, Rejection, SERVICE_PROXY_NAME, ServiceCidrObject, ServiceObject,
    SliceObject,
};

/// A kind of objects: its collection, its selectors and its conversion to the model.
pub(super) trait Resource {
    type Object: DeserializeOwned + Message + Default;
    type Value;

    /// The kind in rejections.
    const KIND: &'static str;
    const PATH: &'static str;
    /// Whether an API server may lack the resource or deny access to it.
    const IS_OPTIONAL: bool = false;

    fn labels(&self) -> Option<String> {
        None
    }

    fn fields(&self) -> Option<String> {
        None
    }

    fn metadata(object: &Self::Object) -> &Meta;

    fn convert(
        object: &Self::Object,
        names: &mut Interner,
    ) -> (Option<Self::Value>, Vec<Rejection>);

    fn apply(value: Self::Value) -> Event;

    fn delete(metadata: &Meta) -> Event;

    fn replace(values: Vec<Self::Value>) -> Event;
}

/// The Services of a proxy, without headless ones; `None` selects those without the label that
/// names a proxy.
pub(super) struct Services(pub(super) Option<Name>);

impl Resource for Services {
    type Object = ServiceObject;
    type Value = Service;

    const KIND: &'static str = "Service";
    const PATH: &'static str = "/api/v1/services";

    fn labels(&self) -> Option<String> {
        Some(match &self.0 {
            None => format!("!{SERVICE_PROXY_NAME}"),
            Some(name) => format!("{SERVICE_PROXY_NAME}={name}"),
        })
    }

    fn fields(&self) -> Option<String> {
        Some("spec.clusterIP!=None".to_owned())
    }

    fn metadata(object: &ServiceObject) -> &Meta {
        &object.metadata
    }

    fn convert(object: &ServiceObject, names: &mut Interner) -> (Option<Service>, Vec<Rejection>) {
        object.convert(names)
    }

    fn apply(service: Service) -> Event {
        Event::Service(Change::Apply(service))
    }

    fn delete(metadata: &Meta) -> Event {
        Event::Service(Change::Delete(ServiceKey::new(metadata.namespace(), &metadata.name)))
    }

    fn replace(services: Vec<Service>) -> Event {
        Event::Service(Change::Replace(services))
    }
}

/// All slices except those of headless Services.
pub(super) struct Slices;

impl Resource for Slices {
    type Object = SliceObject;
    type Value = EndpointSlice;

    const KIND: &'static str = "EndpointSlice";
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn labels(&self) -> Option<String> {
        Some(format!("!{HEADLESS}"))
    }

    fn metadata(object: &SliceObject) -> &Meta {
        &object.metadata
    }

    fn convert(
        object: &SliceObject,
        names: &mut Interner,
    ) -> (Option<EndpointSlice>, Vec<Rejection>) {
        object.convert(names)
    }

    fn apply(slice: EndpointSlice) -> Event {
        Event::Slice(Change::Apply(slice))
    }

    fn delete(metadata: &Meta) -> Event {
        Event::Slice(Change::Delete(SliceKey::new(metadata.namespace(), &metadata.name)))
    }

    fn replace(slices: Vec<EndpointSlice>) -> Event {
        Event::Slice(Change::Replace(slices))
    }
}

/// The Node with this name.
pub(super) struct OwnNode(pub(super) Name);

impl Resource for OwnNode {
    type Object = NodeObject;
    type Value = Node;

    const KIND: &'static str = "Node";
    const PATH: &'static str = "/api/v1/nodes";

    fn fields(&self) -> Option<String> {
        Some(format!("metadata.name={}", self.0))
    }

    fn metadata(object: &NodeObject) -> &Meta {
        &object.metadata
    }

    fn convert(object: &NodeObject, names: &mut Interner) -> (Option<Node>, Vec<Rejection>) {
        let (node, rejections) = object.convert(names);
        (Some(node), rejections)
    }

    fn apply(node: Node) -> Event {
        Event::Node(Some(node))
    }

    fn delete(_: &Meta) -> Event {
        Event::Node(None)
    }

    fn replace(nodes: Vec<Node>) -> Event {
        Event::Node(nodes.into_iter().next())
    }
}

/// All ServiceCIDRs. An API server before 1.33 has none, and the role of kube-proxy before 1.31
/// does not allow reading them.
pub(super) struct ServiceCidrs;

impl Resource for ServiceCidrs {
    type Object = ServiceCidrObject;
    type Value = ServiceCidr;

    const KIND: &'static str = "ServiceCIDR";
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    const IS_OPTIONAL: bool = true;

    fn metadata(object: &ServiceCidrObject) -> &Meta {
        &object.metadata
    }

    fn convert(
        object: &ServiceCidrObject,
        names: &mut Interner,
    ) -> (Option<ServiceCidr>, Vec<Rejection>) {
        let (cidr, rejections) = object.convert(names);
        (Some(cidr), rejections)
    }

    fn apply(cidr: ServiceCidr) -> Event {
        Event::ServiceCidrs(Change::Apply(cidr))
    }

    fn delete(metadata: &Meta) -> Event {
        Event::ServiceCidrs(Change::Delete(metadata.name.as_str().into()))
    }

    fn replace(cidrs: Vec<ServiceCidr>) -> Event {
        Event::ServiceCidrs(Change::Replace(cidrs))
    }
}
