//! Builders of Kubernetes objects: `service("default/web").cluster_ip("10.96.0.10").port("http", 80)`.
//!
//! A builder holds the manifest. As an [`Event`] it is what the program's own conversion makes of it,
//! so that no test starts from a value that no object can have.

use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use kube_ipvs::source::wire::{
    NodeObject, Rejection, Resource, ServiceCidrObject, ServiceObject, SliceObject,
};
use kube_ipvs_core::model::{Change, Event, Family, Interner, Protocol, ServiceKey, SliceKey};
use serde_json::{Value, json};

/// A Kubernetes object of the kind `K`.
#[derive(Clone, Debug)]
pub struct Object<K>(Value, PhantomData<K>);

pub type ServiceBuilder = Object<ServiceObject>;
pub type SliceBuilder = Object<SliceObject>;
pub type NodeBuilder = Object<NodeObject>;

/// Returns a Service without addresses and ports.
pub fn service(key: &str) -> ServiceBuilder {
    let spec = json!({"type": "ClusterIP", "clusterIPs": [], "ports": []});
    Object::new("v1", key, json!({ "spec": spec }))
}

/// Returns an empty slice of the Service whose name is `key` up to the last dash.
pub fn slice(key: &str) -> SliceBuilder {
    let service = key.rsplit_once('-').map_or(key, |(service, _)| service);
    let fields = json!({"addressType": "IPv4", "ports": [], "endpoints": []});
    SliceBuilder::new("discovery.k8s.io/v1", key, fields).of(service)
}

/// Returns a Node without addresses.
pub fn node(name: &str) -> NodeBuilder {
    Object::new("v1", name, json!({"spec": {"podCIDRs": []}, "status": {"addresses": []}}))
}

pub fn service_cidr(name: &str, ranges: &[&str]) -> Object<ServiceCidrObject> {
    Object::new("networking.k8s.io/v1", name, json!({"spec": {"cidrs": ranges}}))
}

impl<K: Resource> Object<K> {
    fn new(api_version: &str, key: &str, fields: Value) -> Self {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let metadata = match K::IS_NAMESPACED {
            true => json!({"namespace": namespace, "name": name}),
            false => json!({"name": name}),
        };
        let object = json!({"apiVersion": api_version, "kind": K::KIND, "metadata": metadata});
        Self(object, PhantomData).patch(fields)
    }

    /// Changes any fields by a JSON merge patch (RFC 7396).
    pub fn patch(mut self, patch: Value) -> Self {
        merge(&mut self.0, patch);
        self
    }

    /// Sets any field of `spec`.
    pub fn spec(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][field] = value.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][key] = value.into();
        self
    }

    /// Sets the creation time in Unix seconds.
    pub fn created(mut self, seconds: i64) -> Self {
        let time = Timestamp::from_second(seconds).expect("a time");
        self.0["metadata"]["creationTimestamp"] = time.to_string().into();
        self
    }

    fn change(&self) -> (Change<K::Key, K::Value>, Vec<Rejection>) {
        let object = K::deserialize(&self.0).expect("an object that can be decoded");
        let (value, rejections) = object.convert(&mut Interner::default());
        let change = match value {
            Some(value) => Change::Apply(value),
            None => Change::Delete(K::key(object.metadata())),
        };
        (change, rejections)
    }

    /// Returns the event of an object, valid or not, and what the program rejects in it.
    pub fn convert(&self) -> (Event, Vec<Rejection>) {
        let (change, rejections) = self.change();
        (K::event(change), rejections)
    }

    /// Returns the value in the model of a valid object that is served.
    pub fn value(&self) -> K::Value {
        match self.change() {
            (Change::Apply(value), rejections) if rejections.is_empty() => value,
            (_, rejections) => panic!("not served: {:#}, {rejections:?}", self.0),
        }
    }

    /// Returns the last element of a list.
    fn last(&mut self, list: &str) -> &mut Value {
        let elements = self.0.pointer_mut(list).and_then(Value::as_array_mut);
        elements.and_then(|it| it.last_mut()).unwrap_or_else(|| panic!("nothing in {list} yet"))
    }
}

impl ServiceBuilder {
    /// Adds a ClusterIP; the first one is `clusterIP` too. `None` makes the Service headless.
    pub fn cluster_ip(mut self, address: &str) -> Self {
        let spec = &mut self.0["spec"];
        if spec["clusterIP"].is_null() {
            spec["clusterIP"] = address.into();
        }
        push(&mut spec["clusterIPs"], address.into());
        self
    }

    pub fn external_ip(mut self, address: &str) -> Self {
        push(&mut self.0["spec"]["externalIPs"], address.into());
        self
    }

    /// Adds an address from a load balancer.
    pub fn load_balancer_ip(mut self, address: &str) -> Self {
        push(&mut self.0["status"]["loadBalancer"]["ingress"], json!({"ip": address}));
        self.spec("type", "LoadBalancer")
    }

    /// Sets `ipMode` of the last address from a load balancer.
    pub fn ip_mode(mut self, mode: &str) -> Self {
        self.last("/status/loadBalancer/ingress")["ipMode"] = mode.into();
        self
    }

    pub fn source_range(mut self, range: &str) -> Self {
        push(&mut self.0["spec"]["loadBalancerSourceRanges"], range.into());
        self
    }

    /// Adds a TCP port.
    pub fn port(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Tcp, name, port)
    }

    pub fn udp(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Udp, name, port)
    }

    pub fn sctp(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Sctp, name, port)
    }

    pub fn port_of(mut self, protocol: Protocol, name: &str, port: u16) -> Self {
        push(&mut self.0["spec"]["ports"], port_object(protocol, name, port));
        self
    }

    /// Sets the node port of the last port.
    pub fn node_port(mut self, number: u16) -> Self {
        self.last("/spec/ports")["nodePort"] = number.into();
        match self.0["spec"]["type"] == "ClusterIP" {
            true => self.spec("type", "NodePort"),
            false => self,
        }
    }

    /// Sets `targetPort` of the last port, which the program ignores.
    pub fn target(mut self, name: &str) -> Self {
        self.last("/spec/ports")["targetPort"] = name.into();
        self
    }

    /// Makes it a name for something outside of the cluster.
    pub fn external_name(mut self, name: &str) -> Self {
        self.0["spec"] = json!({"type": "ExternalName", "externalName": name});
        self
    }

    pub fn local_internal(self) -> Self {
        self.spec("internalTrafficPolicy", "Local")
    }

    pub fn local_external(self) -> Self {
        self.spec("externalTrafficPolicy", "Local")
    }

    pub fn affinity(self, seconds: u32) -> Self {
        self.spec("sessionAffinity", "ClientIP")
            .spec("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": seconds}}))
    }
}

impl SliceBuilder {
    /// Sets another Service, of the slice's namespace.
    pub fn of(self, service: &str) -> Self {
        let name = service.split_once('/').map_or(service, |(_, name)| name);
        self.label("kubernetes.io/service-name", name)
    }

    /// Gives the slice another name, beside other slices of the Service.
    pub fn named(mut self, name: &str) -> Self {
        self.0["metadata"]["name"] = name.into();
        self
    }

    pub fn v6(self) -> Self {
        self.of_family(Family::V6)
    }

    /// Sets the family of the addresses, which is IPv4 without it.
    pub fn of_family(mut self, family: Family) -> Self {
        self.0["addressType"] = family.to_string().into();
        self
    }

    pub fn family(&self) -> Family {
        if self.0["addressType"] == "IPv6" { Family::V6 } else { Family::V4 }
    }

    /// Adds a TCP port.
    pub fn port(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Tcp, name, port)
    }

    pub fn udp(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Udp, name, port)
    }

    pub fn sctp(self, name: &str, port: u16) -> Self {
        self.port_of(Protocol::Sctp, name, port)
    }

    pub fn port_of(mut self, protocol: Protocol, name: &str, port: u16) -> Self {
        push(&mut self.0["ports"], port_object(protocol, name, port));
        self
    }

    /// Adds an endpoint that is ready and serving.
    pub fn ready(self, address: &str, node: &str) -> Self {
        self.endpoint(address, node, (true, true, false))
    }

    /// Adds an endpoint that is neither ready nor serving.
    pub fn not_ready(self, address: &str, node: &str) -> Self {
        self.endpoint(address, node, (false, false, false))
    }

    /// Adds an endpoint that terminates but still serves.
    pub fn terminating(self, address: &str, node: &str) -> Self {
        self.endpoint(address, node, (false, true, true))
    }

    /// Adds an endpoint that terminates and no longer serves.
    pub fn stopped(self, address: &str, node: &str) -> Self {
        self.endpoint(address, node, (false, false, true))
    }

    /// Adds an endpoint with conditions: ready, serving, terminating. No node has it if `node` is
    /// empty.
    pub fn endpoint(
        mut self,
        address: &str,
        node: &str,
        (ready, serving, terminating): (bool, bool, bool),
    ) -> Self {
        let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
        let mut endpoint = json!({"addresses": [address], "conditions": conditions});
        if !node.is_empty() {
            endpoint["nodeName"] = node.into();
        }
        push(&mut self.0["endpoints"], endpoint);
        self
    }

    /// Changes any fields of the last endpoint by a JSON merge patch.
    pub fn patch_endpoint(mut self, patch: Value) -> Self {
        merge(self.last("/endpoints"), patch);
        self
    }

    /// Sets the pod of the last endpoint.
    pub fn pod(self, name: &str) -> Self {
        self.patch_endpoint(json!({"targetRef": {"kind": "Pod", "name": name}}))
    }

    /// Sets the zone of the last endpoint.
    pub fn zone(self, zone: &str) -> Self {
        self.patch_endpoint(json!({ "zone": zone }))
    }

    /// Sets the zones in the hints of the last endpoint.
    pub fn for_zones(self, zones: &[&str]) -> Self {
        self.hint("forZones", zones)
    }

    /// Sets the nodes in the hints of the last endpoint.
    pub fn for_nodes(self, nodes: &[&str]) -> Self {
        self.hint("forNodes", nodes)
    }

    fn hint(self, field: &str, names: &[&str]) -> Self {
        let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        self.patch_endpoint(json!({"hints": {field: names}}))
    }

    /// Sets the time of the change that caused this version of the slice, in Unix milliseconds.
    pub fn triggered(self, milliseconds: i64) -> Self {
        let time = Timestamp::from_millisecond(milliseconds).expect("a time");
        self.annotation("endpoints.kubernetes.io/last-change-trigger-time", &time.to_string())
    }
}

impl NodeBuilder {
    pub fn internal_ip(mut self, address: &str) -> Self {
        let address = json!({"type": "InternalIP", "address": address});
        push(&mut self.0["status"]["addresses"], address);
        self
    }

    pub fn pod_cidr(mut self, range: &str) -> Self {
        push(&mut self.0["spec"]["podCIDRs"], range.into());
        self
    }

    pub fn zone(self, zone: &str) -> Self {
        self.label("topology.kubernetes.io/zone", zone)
    }
}

impl<K> From<Object<K>> for Value {
    fn from(object: Object<K>) -> Self {
        object.0
    }
}

impl<K: Resource> From<Object<K>> for Event {
    fn from(object: Object<K>) -> Self {
        let (event, rejections) = object.convert();
        assert!(rejections.is_empty(), "{rejections:?}");
        event
    }
}

fn port_object(protocol: Protocol, name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": protocol.name().to_uppercase()})
}

/// Appends to a list, which may be absent.
fn push(list: &mut Value, element: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("a list").push(element);
}

/// Applies a JSON merge patch (RFC 7396).
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(object.as_object_mut().and_then(|object| object.remove(&name))),
            value => merge(&mut object[name], value),
        }
    }
}

/// Returns the complete list of Services.
pub fn only_services(services: impl IntoIterator<Item = ServiceBuilder>) -> Event {
    Event::Service(Change::Replace(services.into_iter().map(|it| it.value()).collect()))
}

/// Returns the complete list of slices.
pub fn only_slices(slices: impl IntoIterator<Item = SliceBuilder>) -> Event {
    Event::Slice(Change::Replace(slices.into_iter().map(|it| it.value()).collect()))
}

/// Returns the complete list of ServiceCIDRs: one with these ranges.
pub fn service_cidrs(ranges: &[&str]) -> Event {
    Event::ServiceCidrs(Change::Replace(vec![service_cidr("kubernetes", ranges).value()]))
}

pub fn without_service(key: &str) -> Event {
    Event::Service(Change::Delete(service_key(key)))
}

pub fn without_slice(key: &str) -> Event {
    Event::Slice(Change::Delete(slice_key(key)))
}

pub fn listening(at: &[&str]) -> Event {
    Event::Listening(at.iter().map(|text| text.parse().expect("ADDR:PORT")).collect())
}

pub fn addresses(ips: &[&str]) -> Event {
    Event::Addresses(ips.iter().map(|text| ip(text)).collect())
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not an IP address"))
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a range of addresses"))
}

pub fn service_key(text: &str) -> ServiceKey {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ServiceKey::new(namespace, name)
}

pub fn slice_key(text: &str) -> SliceKey {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    SliceKey::new(namespace, name)
}
