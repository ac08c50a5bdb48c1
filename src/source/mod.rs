//! The sources of objects: the Kubernetes API, a directory of manifests, the node's network.
//!
//! Each has a function `follow`, which delivers complete lists first and changes after them, as events
//! with values of the model, to a closure that breaks once the receiver is gone.

pub mod directory;
pub mod kubernetes;
pub mod manifests;
pub mod network;
pub mod wire;
