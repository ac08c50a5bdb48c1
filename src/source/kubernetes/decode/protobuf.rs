//! Pages and events in Kubernetes' protobuf (`runtime/serializer/protobuf` of apimachinery).
//!
//! What is not read is passed over, and what is read later, an object of a list or of an event, is a
//! part of the answer until then, not a copy.

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::super::answer::ResponseError;
use super::super::resource::Resource;
use super::{Identity, Page, PageMeta, Parsed, WatchEvent};
use crate::source::wire::{ApiStatus, Meta};

/// What every object but an event of a watch begins with.
const PREFIX: &[u8] = b"k8s\0";

/// `runtime.Unknown`, which every object is in: its kind is known from the request.
#[derive(Message)]
struct Envelope {
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

/// `meta/v1.WatchEvent`.
#[derive(Message)]
struct ProtoEvent {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(message, required, tag = "2")]
    object: Extension,
}

/// `runtime.RawExtension`.
#[derive(Message)]
struct Extension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

/// A list of any kind.
#[derive(Message)]
struct ProtoPage {
    #[prost(message, required, tag = "1")]
    metadata: PageMeta,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
}

pub(super) fn event<R: Resource>(text: Bytes) -> Result<WatchEvent<R::Object>, ResponseError> {
    let event = ProtoEvent::decode(text).map_err(malformed)?;
    let object = opened(event.object.raw)?;
    Ok(match event.r#type.as_str() {
        "ADDED" | "MODIFIED" => WatchEvent::Changed(parsed::<R>(&object)),
        "DELETED" => WatchEvent::Deleted(metadata(&object)),
        "BOOKMARK" => WatchEvent::bookmark(metadata(&object)),
        "ERROR" => WatchEvent::Error(ResponseError::refused(read(&object)?)),
        other => return Err(ResponseError::Malformed(format!("an event of type {other:?}"))),
    })
}

pub(super) fn page<R: Resource>(text: Bytes) -> Result<Page<R::Object>, ResponseError> {
    let ProtoPage { metadata, items } = ProtoPage::decode(opened(text)?).map_err(malformed)?;
    Ok(Page { metadata, objects: items.iter().map(|item| parsed::<R>(item)).collect() })
}

pub(super) fn status(text: Bytes) -> Result<ApiStatus, ResponseError> {
    read(&opened(text)?)
}

/// What is in an envelope.
fn opened(text: Bytes) -> Result<Bytes, ResponseError> {
    if !text.starts_with(PREFIX) {
        return Err(ResponseError::Malformed("not an object in Kubernetes' protobuf".to_owned()));
    }
    let envelope = Envelope::decode(text.slice(PREFIX.len()..)).map_err(malformed)?;
    Ok(envelope.raw)
}

fn parsed<R: Resource>(object: &[u8]) -> Parsed<R::Object> {
    match R::Object::decode(object) {
        Ok(object) => Parsed::Object(object),
        Err(error) => Parsed::odd::<R>(metadata(object), "", &error.to_string()),
    }
}

/// As much of the metadata as can be read, which tells which object it is.
fn metadata(object: &[u8]) -> Meta {
    let mut identity = Identity::default();
    // What came before an error stays.
    let _ = identity.merge(object);
    identity.metadata
}

fn read<T: Message + Default>(object: &[u8]) -> Result<T, ResponseError> {
    T::decode(object).map_err(malformed)
}

fn malformed(error: DecodeError) -> ResponseError {
    ResponseError::Malformed(error.to_string())
}
