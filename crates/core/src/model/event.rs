//! Events of the sources: objects in their current state.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{
    EndpointSlice, Link, Name, Node, Service, ServiceCidr, ServiceKey, SliceKey, VirtualAddress,
};

/// A change to the objects of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<K, T> {
    /// The object was added or changed.
    Apply(T),
    /// The object does not exist, or another proxy serves it.
    Delete(K),
    /// The complete list of objects.
    Replace(Vec<T>),
}

/// An event of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Services that this proxy serves.
    Service(Change<ServiceKey, Service>),
    /// Endpoint slices that name a Service.
    Slice(Change<SliceKey, EndpointSlice>),
    Node(Option<Node>),
    ServiceCidrs(Change<Name, ServiceCidr>),
    /// The addresses of this node's interfaces, sorted; without loopback and link-local addresses
    /// and those of the agent.
    Addresses(Vec<IpAddr>),
    /// The destinations of this node's routes, sorted and disjoint; without default routes, table
    /// `local` and the agent's routes.
    Routes(Vec<IpNet>),
    /// This node's links, sorted; reported only for a flowtable.
    Links(Vec<Link>),
    /// The listening sockets of this node's network namespace. The unspecified address stands for
    /// all addresses of its family.
    Listening(Vec<VirtualAddress>),
    /// The node's source address for packets to other hosts, one per family that has one.
    SourceIps(Vec<IpAddr>),
    /// Whether the node's kernel has IPv6; true until reported.
    Ipv6(bool),
    /// The addresses at which the agent reaches the API server.
    ApiServers(Vec<SocketAddr>),
}
