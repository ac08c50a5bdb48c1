//! Objects as an API server stores them, written as manifests.

use std::net::IpAddr;

use kube_ipvs_core::model::{Family, Protocol};
use serde_json::{Value, json};

use super::host::Host;

/// A Kubernetes object.
#[derive(Clone, Debug)]
pub(crate) struct Object(Value);

impl Object {
    /// The file that holds it.
    pub(crate) fn file(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("cluster").to_lowercase();
        let metadata = &self.0["metadata"];
        let (kind, namespace) = (text(&self.0["kind"]), text(&metadata["namespace"]));
        format!("{kind}.{namespace}.{}.json", text(&metadata["name"]))
    }

    /// What the file holds.
    pub(crate) fn content(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

/// A Service, with its builder methods.
#[derive(Clone, Debug)]
pub(crate) struct Service(Value);

/// An EndpointSlice, with its builder methods.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints(Value);

/// The Service `namespace/name`.
pub(crate) fn service(key: &str) -> Service {
    let (namespace, name) = key.split_once('/').expect("NAMESPACE/NAME");
    Service(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "ClusterIP", "clusterIPs": [], "ports": []},
    }))
}

/// The first EndpointSlice of the Service `namespace/name`.
pub(crate) fn endpoints(key: &str) -> Endpoints {
    let (namespace, name) = key.split_once('/').expect("NAMESPACE/NAME");
    let labels = json!({"kubernetes.io/service-name": name});
    Endpoints(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": format!("{name}-1"), "labels": labels},
        "addressType": "IPv4",
        "ports": [],
        "endpoints": [],
    }))
}

/// An empty slice of each family of the Service `NAMESPACE/NAME`.
pub(crate) fn endpoints_of_both(key: &str) -> [Endpoints; 2] {
    let (_, name) = key.split_once('/').expect("NAMESPACE/NAME");
    [("v4", Family::V4), ("v6", Family::V6)]
        .map(|(suffix, family)| endpoints(key).named(&format!("{name}-{suffix}")).of_family(family))
}

/// The Node object of a node of the lab.
pub(crate) fn node(host: Host) -> Object {
    node_at(host, &Family::BOTH.map(|family| host.ip(family)))
}

/// The same, with other addresses.
pub(crate) fn node_at(host: Host, addresses: &[IpAddr]) -> Object {
    let name = host.node().expect("a node");
    let internal = |address| json!({"type": "InternalIP", "address": address});
    let addresses: Vec<Value> = addresses.iter().map(internal).collect();
    let number = if host == Host::N1 { 1 } else { 2 };
    let pods = [format!("10.244.{number}.0/24"), format!("fd00:244:{number}::/64")];
    let labels = json!({"topology.kubernetes.io/zone": zone(host)});
    Object(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"podCIDR": pods[0], "podCIDRs": pods},
        "status": {"addresses": addresses},
    }))
}

/// The zone of the node that a host is or runs on.
fn zone(host: Host) -> &'static str {
    if host.node() == Some("n1") { "zone-1" } else { "zone-2" }
}

/// The ServiceCIDR `name`.
pub(crate) fn service_cidr(name: &str, cidrs: &[&str]) -> Object {
    Object(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": cidrs},
    }))
}

impl Service {
    /// Adds a ClusterIP; the first one is `clusterIP` too.
    pub(crate) fn cluster_ip(mut self, ip: &str) -> Self {
        let spec = &mut self.0["spec"];
        if spec["clusterIP"].is_null() {
            spec["clusterIP"] = ip.into();
        }
        push(&mut spec["clusterIPs"], ip.into());
        self
    }

    /// Adds a port. Where it leads is the endpoint slices' business.
    pub(crate) fn port(mut self, port: u16, name: &str, protocol: Protocol) -> Self {
        let port = json!({"port": port, "name": name, "protocol": wire(protocol)});
        push(&mut self.0["spec"]["ports"], port);
        self
    }

    /// Names the pods' port that the port added last leads to.
    pub(crate) fn target(mut self, name: &str) -> Self {
        let ports = self.0["spec"]["ports"].as_array_mut().expect("a list");
        ports.last_mut().expect("a port")["targetPort"] = name.into();
        self
    }

    /// Gives the port added last a node port.
    pub(crate) fn node_port(mut self, number: u16) -> Self {
        let ports = self.0["spec"]["ports"].as_array_mut().expect("a list");
        ports.last_mut().expect("a port")["nodePort"] = number.into();
        self
    }

    /// Adds an address that a load balancer has given it.
    pub(crate) fn ingress(mut self, ip: &str) -> Self {
        self.0["spec"]["type"] = "LoadBalancer".into();
        let list = &mut self.0["status"]["loadBalancer"]["ingress"];
        if list.is_null() {
            *list = json!([]);
        }
        push(list, json!({"ip": ip}));
        self
    }

    /// Says how the addresses added by [`Service::ingress`] are used.
    pub(crate) fn ip_mode(mut self, mode: &str) -> Self {
        let list = self.0["status"]["loadBalancer"]["ingress"].as_array_mut();
        for ingress in list.expect("a list") {
            ingress["ipMode"] = mode.into();
        }
        self
    }

    /// Sets any other field of `spec`.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["spec"][field] = value.into();
        self
    }

    /// Sets a label.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = value.into();
        self
    }

    /// Makes it headless.
    pub(crate) fn headless(self) -> Self {
        self.cluster_ip("None")
    }

    /// Makes it a name for something outside of the cluster.
    pub(crate) fn external_name(mut self, name: &str) -> Self {
        self.0["spec"] = json!({"type": "ExternalName", "externalName": name});
        self
    }
}

impl Endpoints {
    /// Gives the slice another name than the Service's with `-1`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.0["metadata"]["name"] = name.into();
        self
    }

    /// Makes it a slice of IPv6 addresses. To be called before endpoints are added.
    pub(crate) fn of_family(mut self, family: Family) -> Self {
        self.0["addressType"] = family.to_string().into();
        self
    }

    /// Adds a port: the number that the pods listen on.
    pub(crate) fn port(mut self, name: &str, port: u16, protocol: Protocol) -> Self {
        let port = json!({"name": name, "port": port, "protocol": wire(protocol)});
        push(&mut self.0["ports"], port);
        self
    }

    /// Adds an endpoint that is ready.
    pub(crate) fn ready(self, host: Host) -> Self {
        self.endpoint(host, json!({"ready": true, "serving": true, "terminating": false}))
    }

    /// Adds an endpoint that is not ready.
    pub(crate) fn not_ready(self, host: Host) -> Self {
        self.endpoint(host, json!({"ready": false, "serving": false, "terminating": false}))
    }

    /// Adds an endpoint that is going away and still answers.
    pub(crate) fn draining(self, host: Host) -> Self {
        self.endpoint(host, json!({"ready": false, "serving": true, "terminating": true}))
    }

    /// Adds an endpoint whose conditions are not given.
    pub(crate) fn without_conditions(self, host: Host) -> Self {
        self.endpoint(host, json!({}))
    }

    /// Adds an endpoint that is ready and that no node has.
    pub(crate) fn elsewhere(mut self, ip: &str) -> Self {
        push(&mut self.0["endpoints"], json!({"addresses": [ip], "conditions": {"ready": true}}));
        self
    }

    /// Means the endpoint added last for its own zone.
    pub(crate) fn for_its_zone(self) -> Self {
        self.hint(|host| json!({"forZones": [{"name": zone(host)}]}))
    }

    /// Means the endpoint added last for its own node.
    pub(crate) fn for_its_node(self) -> Self {
        self.hint(|host| json!({"forNodes": [{"name": host.node()}]}))
    }

    fn hint(mut self, hints: impl Fn(Host) -> Value) -> Self {
        let endpoints = self.0["endpoints"].as_array_mut().expect("a list");
        let endpoint = endpoints.last_mut().expect("an endpoint");
        let node = Host::ALL.into_iter().find(|host| endpoint["nodeName"] == json!(host.node()));
        endpoint["hints"] = hints(node.expect("a host of the lab"));
        self
    }

    fn endpoint(mut self, host: Host, conditions: Value) -> Self {
        let v6 = self.0["addressType"] == "IPv6";
        let ip = host.ip(if v6 { Family::V6 } else { Family::V4 });
        let endpoint =
            json!({"addresses": [ip], "conditions": conditions, "nodeName": host.node()});
        push(&mut self.0["endpoints"], endpoint);
        self
    }
}

impl From<Service> for Object {
    fn from(service: Service) -> Self {
        Self(service.0)
    }
}

impl From<Endpoints> for Object {
    fn from(endpoints: Endpoints) -> Self {
        Self(endpoints.0)
    }
}

fn wire(protocol: Protocol) -> String {
    protocol.name().to_uppercase()
}

fn push(list: &mut Value, value: Value) {
    list.as_array_mut().expect("a list").push(value);
}
