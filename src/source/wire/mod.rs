//! Kubernetes objects as they are written, reduced to what the model has, and their conversion.
//!
//! Each type is read from JSON (`serde`) and from protobuf (`prost`): fields by their names in the one,
//! by their numbers in the other, which Kubernetes' `generated.proto` of the API group gives. What is
//! not a pointer in Kubernetes' own types is written in protobuf even where it is empty: such a field
//! is no `Option`, and an empty text or 0 is the same as none. Numbers are 64 bits wide here so that
//! any that JSON has can be told; protobuf's 32 bits read the same.
//!
//! Parsing is lenient: addresses and numbers are taken as they come and judged in the conversion,
//! so that one odd field costs neither its object's other fields nor any other object.

mod address;
mod json;
mod meta;
mod node;
mod rejection;
mod service;
mod service_cidr;
mod slice;
mod status;

pub use json::parse;
pub use meta::Meta;
pub use node::NodeObject;
pub use rejection::{Rejection, Rejections};
pub use service::ServiceObject;
pub use service_cidr::ServiceCidrObject;
pub use slice::SliceObject;
pub use status::ApiStatus;

/// Label that gives a Service to another proxy.
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a slice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of the slices of headless Services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
