//! What the kernel should hold: one Service, its endpoints and its surroundings → a [`Program`].
//!
//! [`Program`]: crate::model::DesiredService

mod claims;
mod endpoints;
mod frontends;
mod health_check;
mod images;
mod node;
mod node_context;
mod overlaps;
mod pools;
mod ranges;

pub use claims::{Claim, Claims};
pub use endpoints::{EndpointChoice, choose};
pub use frontends::{Having, asked_of_node, claims, is_served, pools, program, same_packets};
pub use health_check::health_check_addresses;
pub use images::ImagesOf;
pub use node::node_program;
pub use node_context::{NodeContext, Surveyed};
pub use overlaps::{Overlap, Use, overlaps};
pub use ranges::{aggregate, contain};
