//! The vocabulary: plain values.
//!
//! On a node, a Service is front ends that use pools of backends; together they are its
//! [`DesiredService`]. Nothing here does IO, reads a clock or knows netlink or Kubernetes client
//! types.

mod address;
mod control;
mod desired;
mod difference;
mod element;
mod endpoint;
mod endpoint_filter;
mod endpoint_set;
mod event;
mod frontend;
mod health_check;
mod interface;
mod interner;
mod label;
mod limiter;
mod node;
mod pod_names;
mod pool;
mod route;
mod service;
mod settings;
mod shared;
mod text;
mod written;

pub use address::{
    Family, ParseAddressError, Protocol, VirtualAddress, shadow_addresses, shadow_ranges,
};
pub use control::{AffinityPrefix, Control, LocalityWeights, SchedulerFlags};
pub use desired::{DesiredNode, DesiredService, Refusal, RefusalReason, SharedPools};
pub use element::{AddressSet, Element, InterfaceSet, Leads, OnePacketLeads, PortSet, RangeSet};
pub use endpoint::{Endpoint, EndpointPort, EndpointSlice, SliceKey, Topology};
pub use endpoint_filter::{EndpointCounts, EndpointFilter, EndpointSelection, Locality};
pub use endpoint_set::{EndpointSet, Endpoints};
pub use event::{Change, Event};
pub use frontend::{Frontend, FrontendKind, Masquerade, Right, Shadow, Target};
pub use health_check::HealthCheck;
pub use interface::{InterfaceName, InterfaceNameError, Interfaces, Link};
pub use interner::{Interner, Name};
pub use label::{LabelHashes, LabelRequirement, LabelSelector};
pub use limiter::{Limiter, QUIET, Topic};
pub use node::{Node, ServiceCidr};
pub use pod_names::{EndpointName, PodNames};
pub use pool::{
    Backend, BackendChange, Backends, Pool, PoolControl, Scheduler, UnknownScheduler, VirtualServer,
};
pub use route::{DEVICE, LOOPBACK, NAME, ROUTE_METRIC, ROUTE_PROTOCOL, Route};
pub use service::{Service, ServiceKey, ServicePort, TrafficPolicy};
pub use settings::{
    Carry, LocalDetector, NodePortAddresses, ParsePortsError, Ports, Settings, protected_node_ports,
};
pub use shared::Shared;
pub use text::{cut, one_line, plain_json, with_causes};
pub use written::{read_ip, read_range};
