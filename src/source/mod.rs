//! Where objects come from: the Kubernetes API, a directory of manifests, the node's interfaces.
//! What is delivered is `model` values and nothing else.

pub mod addresses;
pub mod kubernetes;
pub mod manifests;
pub mod wire;
