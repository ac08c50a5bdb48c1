//! The sources of objects: the Kubernetes API, a directory of manifests, the node's network. They
//! deliver values of the model only.

pub mod directory;
pub mod kubernetes;
pub mod manifests;
pub mod network;
pub mod wire;
