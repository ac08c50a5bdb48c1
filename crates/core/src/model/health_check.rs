//! The health check of a load balancer Service on this node.

use super::Family;

/// The answer on `spec.healthCheckNodePort`: whether a load balancer that keeps client addresses
/// should send traffic to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, IPv4 first. A family without a ClusterIP
    /// has the count of the other, because a load balancer may ask at any address of the node.
    pub local_endpoints: [usize; Family::BOTH.len()],
}
