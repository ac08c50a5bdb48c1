//! Kubernetes objects in their external form, reduced to the fields that the model needs, and their
//! conversion.
//!
//! Each type is decoded from JSON (`serde`) by field names, and from protobuf (`prost`) by the
//! field numbers of `generated.proto` of the API group. Protobuf always contains the fields that
//! are not pointers in Kubernetes' types: such a field is not an `Option`, and an empty string or 0
//! means that it is absent. Numbers have 64 bits, so that any number in JSON can be reported;
//! protobuf's 32 bits decode the same way.
//!
//! Parsing is lenient: addresses and numbers are validated in the conversion, so that an invalid
//! field affects neither the other fields of its object nor other objects.

mod address;
mod json;
mod meta;
mod node;
mod rejection;
mod resource;
mod service;
mod service_cidr;
mod slice;
mod status;

pub use json::parse;
pub use meta::Meta;
pub use node::NodeObject;
pub use rejection::{Rejection, Rejections};
pub use resource::Resource;
pub use service::ServiceObject;
pub use service_cidr::ServiceCidrObject;
pub use slice::SliceObject;
pub use status::ApiStatus;

/// Label of a Service that selects another proxy.
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a slice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of the slices of headless Services.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
