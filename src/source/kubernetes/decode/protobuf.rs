//! Pages and events in Kubernetes' protobuf (`runtime/serializer/protobuf` of apimachinery).
//!
//! Unused fields are skipped. The objects of a list or event are slices of the answer until they
//! are decoded, and not copies.

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::super::answer::ResponseError;
use super::{Page, PageMeta, Parsed, WatchEvent};
use crate::source::wire::{ApiStatus, Resource};

/// The prefix of every object except watch events.
const PREFIX: &[u8] = b"k8s\0";

/// `runtime.Unknown`, the envelope of every object; its kind is known from the request.
#[derive(Message)]
struct Envelope {
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

#[derive(Message)]
struct ProtoEvent {
    #[prost(string, tag = "1")]
    r#type: String,
    #[prost(message, required, tag = "2")]
    object: Extension,
}

#[derive(Message)]
struct Extension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

#[derive(Message)]
struct ProtoPage {
    #[prost(message, required, tag = "1")]
    metadata: PageMeta,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
}

pub(super) fn event<R: Resource>(text: Bytes) -> Result<WatchEvent<Parsed<R>>, ResponseError> {
    let event = ProtoEvent::decode(text).map_err(malformed)?;
    let object = opened(event.object.raw)?;
    Ok(match event.r#type.as_str() {
        "ADDED" | "MODIFIED" => WatchEvent::Changed(parsed(&object)),
        "DELETED" => WatchEvent::Deleted(parsed(&object)),
        "BOOKMARK" => WatchEvent::Bookmark(parsed(&object)),
        "ERROR" => WatchEvent::Error(ApiStatus::decode(object).map_err(malformed)?),
        other => return Err(ResponseError::Malformed(format!("an event of type {other:?}"))),
    })
}

pub(super) fn page<R: Resource>(text: Bytes) -> Result<Page<Parsed<R>>, ResponseError> {
    let ProtoPage { metadata, items } = ProtoPage::decode(opened(text)?).map_err(malformed)?;
    Ok(Page { metadata, items: Some(items.iter().map(|item| parsed(item)).collect()) })
}

pub(super) fn status(text: Bytes) -> Result<ApiStatus, ResponseError> {
    ApiStatus::decode(opened(text)?).map_err(malformed)
}

/// Returns the content of an envelope.
fn opened(text: Bytes) -> Result<Bytes, ResponseError> {
    if !text.starts_with(PREFIX) {
        return Err(ResponseError::Malformed("not an object in Kubernetes' protobuf".to_owned()));
    }
    let envelope = Envelope::decode(text.slice(PREFIX.len()..)).map_err(malformed)?;
    Ok(envelope.raw)
}

fn parsed<R: Resource>(text: &[u8]) -> Parsed<R> {
    let mut object = R::default();
    match object.merge(text) {
        Ok(()) => Parsed::Object(object),
        // Fields before an error are kept, and the metadata comes first.
        Err(error) => Parsed::invalid(object.metadata().clone(), "", &error.to_string()),
    }
}

fn malformed(error: DecodeError) -> ResponseError {
    ResponseError::Malformed(error.to_string())
}
