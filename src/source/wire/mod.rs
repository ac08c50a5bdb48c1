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
mod meta;
mod node;
mod rejection;
mod service;
mod service_cidr;
mod slice;
mod status;

use std::fmt::Display;

use kube_ipvs_core::model::{Change, Event, Interner};
use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use meta::Meta;
pub use node::NodeObject;
pub use rejection::{Rejection, Rejections};
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

/// A kind of objects: its collection in the API, and the conversion of its objects and their changes
/// to the model.
pub trait Resource: DeserializeOwned + Message + Default {
    type Key: Display;
    type Value;

    const KIND: &'static str;
    const PATH: &'static str;
    const IS_NAMESPACED: bool;
    /// Whether an API server may lack the resource or deny access to it.
    const IS_OPTIONAL: bool = false;

    fn metadata(&self) -> &Meta;

    /// Sets defaults that the API server sets before it stores an object.
    fn set_defaults(&mut self) {}

    /// Converts the object; `None` if it is not served. Invalid values are left out and reported.
    fn value(&self, names: &mut Interner, rejections: &mut Rejections<'_>) -> Option<Self::Value>;

    fn convert(&self, names: &mut Interner) -> (Option<Self::Value>, Vec<Rejection>) {
        let mut rejections = Rejections::of::<Self>(self.metadata());
        let value = self.value(names, &mut rejections);
        (value, rejections.finish())
    }

    fn key(metadata: &Meta) -> Self::Key;

    fn event(change: Change<Self::Key, Self::Value>) -> Event;
}

/// Parses JSON. The whole text is checked for UTF-8 first, at a tenth of the cost of checking each
/// string. If that fails, unused strings may still be invalid UTF-8.
///
/// # Errors
///
/// If the text is not JSON, or does not have this shape.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(text) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(text),
    }
}
