//! What the kernel should hold: one Service, its endpoints and its surroundings → a [`Program`].
//!
//! [`Program`]: crate::model::Program

mod claims;
mod endpoints;
mod frontends;
mod health_check;
mod images;
mod node;
mod overlaps;
mod pools;
mod ranges;
mod surroundings;

pub use claims::{Claim, Claims};
pub use endpoints::{Choice, choose};
pub use frontends::{Having, asked_of_node, claims, is_served, pools, program, same_packets};
pub use health_check::health_check_addresses;
pub use images::ImagesOf;
pub use node::node_program;
pub use overlaps::{Overlap, Use, overlaps};
pub use ranges::{aggregate, contain};
pub use surroundings::{Ground, Surroundings};
