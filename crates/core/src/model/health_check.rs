//! What the health check of a load balancer Service answers on this node.

use super::Family;

/// What `spec.healthCheckNodePort` answers: whether a load balancer that keeps client addresses
/// had better send traffic to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// The port.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, as is answered in each family, IPv4 first. In
    /// a family that the Service has no ClusterIP of, that is what the other one has: a load balancer may
    /// ask at any address of the node.
    pub local_endpoints: [usize; Family::BOTH.len()],
}
