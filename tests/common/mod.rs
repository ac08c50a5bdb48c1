//! Shared by the test binaries: builders of objects, a node's view of them, an agent and a model kernel.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used)]

pub mod datapath;
pub mod model_agent;
pub mod model_kernel;
pub mod node_view;
pub mod objects;
pub mod random;
