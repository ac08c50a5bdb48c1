//! What the health check of a load balancer Service answers on this node.

use super::Family;

/// What `spec.healthCheckNodePort` answers: whether a load balancer that keeps client addresses
/// had better send traffic to this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// The port.
    pub port: u16,
    /// Distinct addresses of ready endpoints on this node, by `Family as usize`; `None` for a
    /// family that the Service has no ClusterIP of, in which nobody answers.
    pub local_endpoints: [Option<usize>; Family::BOTH.len()],
}
