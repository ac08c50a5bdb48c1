//! Builders of objects: `service("default/web").cluster_ip("10.96.0.10").port("http", 80)`.

use std::net::IpAddr;

use ipnet::IpNet;
use kube_ipvs_core::model::{
    Change, Endpoint, EndpointPort, EndpointSlice, Event, Family, Name, Node, Protocol, Service,
    ServiceCidr, ServiceKey, ServicePort, SliceKey, Topology, TrafficPolicy,
};

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

fn push<T>(list: &mut Box<[T]>, item: T) {
    let mut items = std::mem::take(list).into_vec();
    items.push(item);
    *list = items.into();
}

#[derive(Clone, Debug)]
pub struct ServiceBuilder(pub Service);

/// Returns a Service without addresses and ports.
pub fn service(key: &str) -> ServiceBuilder {
    ServiceBuilder(Service::named(service_key(key)))
}

impl ServiceBuilder {
    pub fn cluster_ip(mut self, address: &str) -> Self {
        push(&mut self.0.cluster_ips, ip(address));
        self
    }

    pub fn external_ip(mut self, address: &str) -> Self {
        push(&mut self.0.external_ips, ip(address));
        self
    }

    pub fn load_balancer_ip(mut self, address: &str) -> Self {
        push(&mut self.0.load_balancer_ips, ip(address));
        self
    }

    pub fn source_range(mut self, range: &str) -> Self {
        push(&mut self.0.source_ranges, net(range));
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

    fn port_of(mut self, protocol: Protocol, name: &str, port: u16) -> Self {
        let port = ServicePort { name: name.into(), protocol, port, node_port: None };
        push(&mut self.0.ports, port);
        self
    }

    /// Sets the node port of the last port.
    pub fn node_port(mut self, number: u16) -> Self {
        self.0.ports.last_mut().expect("a port before its node port").node_port = Some(number);
        self
    }

    pub fn local_internal(mut self) -> Self {
        self.0.internal_policy = TrafficPolicy::Local;
        self
    }

    pub fn local_external(mut self) -> Self {
        self.0.external_policy = TrafficPolicy::Local;
        self
    }

    pub fn affinity(mut self, seconds: u32) -> Self {
        self.0.affinity_seconds = Some(seconds);
        self
    }

    /// In Unix seconds.
    pub fn created(mut self, seconds: i64) -> Self {
        self.0.created = seconds;
        self
    }
}

impl From<ServiceBuilder> for Event {
    fn from(builder: ServiceBuilder) -> Self {
        Self::Service(Change::Apply(builder.0))
    }
}

#[derive(Clone, Debug)]
pub struct SliceBuilder(pub EndpointSlice);

/// Returns an empty slice of the Service whose name is `key` up to the last dash.
pub fn slice(key: &str) -> SliceBuilder {
    let service = key.rsplit_once('-').map_or(key, |(service, _)| service);
    SliceBuilder(EndpointSlice {
        key: slice_key(key),
        service: service_key(service),
        family: Family::V4,
        ports: [].into(),
        endpoints: [].into(),
        triggered: None,
    })
}

impl SliceBuilder {
    /// Sets another Service.
    pub fn of(mut self, service: &str) -> Self {
        self.0.service = service_key(service);
        self
    }

    pub fn v6(mut self) -> Self {
        self.0.family = Family::V6;
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

    fn port_of(mut self, protocol: Protocol, name: &str, port: u16) -> Self {
        let port = EndpointPort { name: name.into(), protocol, port };
        self.0.ports = self.0.ports.iter().cloned().chain([port]).collect();
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

    /// Adds an endpoint with conditions: ready, serving, terminating.
    pub fn endpoint(
        mut self,
        address: &str,
        node: &str,
        (ready, serving, terminating): (bool, bool, bool),
    ) -> Self {
        let node = (!node.is_empty()).then(|| node.into());
        let topology = Topology { node, ..Topology::default() };
        let endpoint = Endpoint {
            address: ip(address),
            ready,
            serving,
            terminating,
            weight: 1,
            topology: topology.into(),
        };
        push(&mut self.0.endpoints, endpoint);
        self
    }

    /// Sets the zones in the hints of the last endpoint.
    pub fn for_zones(self, zones: &[&str]) -> Self {
        self.hint(|topology| topology.for_zones = names(zones))
    }

    /// Sets the nodes in the hints of the last endpoint.
    pub fn for_nodes(self, nodes: &[&str]) -> Self {
        self.hint(|topology| topology.for_nodes = names(nodes))
    }

    fn hint(mut self, set: impl FnOnce(&mut Topology)) -> Self {
        let endpoint = self.0.endpoints.last_mut().expect("an endpoint before its hints");
        let mut topology = Topology::clone(&endpoint.topology);
        set(&mut topology);
        endpoint.topology = topology.into();
        self
    }
}

fn names(texts: &[&str]) -> Box<[Name]> {
    texts.iter().map(|text| Name::from(*text)).collect()
}

impl From<SliceBuilder> for Event {
    fn from(builder: SliceBuilder) -> Self {
        Self::Slice(Change::Apply(builder.0))
    }
}

#[derive(Clone, Debug)]
pub struct NodeBuilder(pub Node);

/// Returns a Node without addresses.
pub fn node(name: &str) -> NodeBuilder {
    NodeBuilder(Node {
        name: name.into(),
        internal_ips: [].into(),
        pod_cidrs: [].into(),
        zone: None,
        labels: [].into(),
        eligible: true,
    })
}

impl NodeBuilder {
    pub fn internal_ip(mut self, address: &str) -> Self {
        push(&mut self.0.internal_ips, ip(address));
        self
    }

    pub fn pod_cidr(mut self, range: &str) -> Self {
        push(&mut self.0.pod_cidrs, net(range));
        self
    }

    pub fn zone(mut self, zone: &str) -> Self {
        self.0.zone = Some(zone.into());
        self
    }
}

impl From<NodeBuilder> for Event {
    fn from(builder: NodeBuilder) -> Self {
        Self::Node(Some(builder.0))
    }
}

/// Returns the complete list of ServiceCIDRs: one with these ranges.
pub fn service_cidrs(ranges: &[&str]) -> Event {
    let cidrs = ranges.iter().map(|range| net(range)).collect();
    Event::ServiceCidrs(Change::Replace(vec![ServiceCidr { name: "kubernetes".into(), cidrs }]))
}

pub fn listening(at: &[&str]) -> Event {
    Event::Listening(at.iter().map(|text| text.parse().expect("ADDR:PORT")).collect())
}

pub fn addresses(ips: &[&str]) -> Event {
    Event::Addresses(ips.iter().map(|text| ip(text)).collect())
}

pub fn without_service(key: &str) -> Event {
    Event::Service(Change::Delete(service_key(key)))
}

pub fn without_slice(key: &str) -> Event {
    Event::Slice(Change::Delete(slice_key(key)))
}

/// Returns the complete list of Services.
pub fn only_services(services: impl IntoIterator<Item = ServiceBuilder>) -> Event {
    let services = services.into_iter().map(|builder| builder.0).collect();
    Event::Service(Change::Replace(services))
}

/// Returns the complete list of slices.
pub fn only_slices(slices: impl IntoIterator<Item = SliceBuilder>) -> Event {
    Event::Slice(Change::Replace(slices.into_iter().map(|builder| builder.0).collect()))
}
