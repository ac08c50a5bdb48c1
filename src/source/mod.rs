//! Where objects come from: the Kubernetes API, a directory of manifests, the node's network.
//! What is delivered is `model` values and nothing else.

pub mod directory;
pub mod kubernetes;
pub mod manifests;
pub mod network;
pub mod wire;
