//! What sources tell: objects as they are now.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{
    EndpointSlice, Link, Name, Node, Service, ServiceCidr, ServiceKey, SliceKey, VirtualAddress,
};

/// A change to the objects of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<K, T> {
    /// The object is so now.
    Apply(T),
    /// There is no such object, or it is not ours to serve.
    Delete(K),
    /// These are all the objects there are.
    Replace(Vec<T>),
}

/// What a source tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Services that this proxy serves.
    Service(Change<ServiceKey, Service>),
    /// Endpoint slices that name a Service.
    Slice(Change<SliceKey, EndpointSlice>),
    /// The Node object of this node.
    Node(Option<Node>),
    /// ServiceCIDR objects.
    ServiceCidrs(Change<Name, ServiceCidr>),
    /// The addresses of this node's interfaces, sorted; without loopback, link-local and our own.
    Addresses(Vec<IpAddr>),
    /// The destinations of this node's routes, sorted and disjoint; without the default routes, those
    /// of table `local` and our own.
    Routes(Vec<IpNet>),
    /// This node's links, sorted; told only where a flowtable is to follow them.
    Links(Vec<Link>),
    /// Where sockets of this node's network namespace listen, with the unspecified address for all
    /// addresses of a family.
    Listening(Vec<VirtualAddress>),
    /// The address of this node that its packets to elsewhere carry, of each family that has one.
    SourceIps(Vec<IpAddr>),
    /// Whether the node's kernel has IPv6. It is taken to have it until this is told.
    Ipv6(bool),
    /// Where the agent itself reaches the API server.
    ApiServers(Vec<SocketAddr>),
}
