//! Shared by the test binaries: objects written as one would say them, a world to put them into
//! and a kernel that answers as the real one does.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, clippy::unwrap_used)]

pub mod datapath;
pub mod model_kernel;
pub mod node_agent;
pub mod objects;
pub mod random;
pub mod world;
