//! Computes the desired state: one Service, its endpoints and the node's context become a
//! [`DesiredService`](crate::model::DesiredService).

mod claims;
mod endpoints;
mod frontends;
mod health_check;
mod node;
mod node_context;
mod options;
mod overlaps;
mod pools;
mod ranges;
mod shadows;

pub use claims::{Claim, Claims};
pub use endpoints::{EndpointChoice, choose};
pub use frontends::{IsOwner, claims, is_served, pools, program, requested_at_node, same_packets};
pub use health_check::health_check_addresses;
pub use node::desired_node;
pub use node_context::{NodeContext, Surveyed};
pub use overlaps::{Overlap, Use, overlaps};
pub use ranges::{aggregate, contain};
pub use shadows::ShadowsOf;
