//! The Service that most cases are about: `default/web`, with every kind of front end.

use crate::common::objects::{ServiceBuilder, SliceBuilder, service, slice};

pub(crate) const CLUSTER_IP: &str = "10.96.0.10:80";
pub(crate) const LB_IP: &str = "203.0.113.1:80";
pub(crate) const EXTERNAL_IP: &str = "203.0.113.2:80";
pub(crate) const NODE_PORT: &str = "192.0.2.1:30080";
/// Every front end but the ClusterIP.
pub(crate) const EXTERNAL: [&str; 3] = [LB_IP, EXTERNAL_IP, NODE_PORT];

/// With all of these front ends and one port.
pub(crate) fn web() -> ServiceBuilder {
    service("default/web")
        .cluster_ip("10.96.0.10")
        .load_balancer_ip("203.0.113.1")
        .external_ip("203.0.113.2")
        .port("", 80)
        .node_port(30080)
}

/// One endpoint on this node and one on another.
pub(crate) fn here_and_elsewhere() -> SliceBuilder {
    slice("default/web-a").port("", 80).ready("10.244.1.5", "n1").ready("10.244.2.5", "n2")
}

/// One endpoint on another node.
pub(crate) fn elsewhere() -> SliceBuilder {
    slice("default/web-a").port("", 80).ready("10.244.2.5", "n2")
}
