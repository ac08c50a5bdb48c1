//! Shared by the test binaries: builders of objects, a world for them, and a model kernel.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used)]

pub mod datapath;
pub mod model_kernel;
pub mod node_agent;
pub mod objects;
pub mod random;
pub mod world;
