//! The answers of the API server: pages of lists and events of watches.
//!
//! An invalid object is reported by name and does not affect the others.

mod json;
mod protobuf;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use prost::Message;
use serde::Deserialize;

use super::answer::ResponseError;
use crate::source::wire::{ApiStatus, Meta, Rejection, Rejections, Resource};

/// A bookmark with this annotation ends the initial list of a watch.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// The encoding of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A watch has one line per event.
    Json,
    /// Kubernetes' protobuf: each object has an envelope, and a watch consists of frames.
    Protobuf,
}

impl Encoding {
    /// The accepted encodings of a request: protobuf needs three fifths of the bytes and less than
    /// half of the work. An API server supports it for all of its own kinds; its substitutes may
    /// not.
    pub(super) const ACCEPTED: &str = "application/vnd.kubernetes.protobuf, application/json;q=0.9";
    /// The accepted encoding if a server rejects the other header.
    pub(super) const ACCEPTED_AT_LEAST: &str = "application/json";

    pub(super) fn of(headers: &HeaderMap) -> Self {
        // A watch has the suffix `;stream=watch`.
        let of = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if of.starts_with(b"application/vnd.kubernetes.protobuf") {
            Self::Protobuf
        } else {
            Self::Json
        }
    }

    pub(super) fn event<R: Resource>(
        self,
        text: Bytes,
    ) -> Result<WatchEvent<Parsed<R>>, ResponseError> {
        match self {
            Self::Json => json::event(&text),
            Self::Protobuf => protobuf::event(text),
        }
    }

    pub(super) fn page<R: Resource>(self, text: Bytes) -> Result<Page<Parsed<R>>, ResponseError> {
        let page = match self {
            Self::Json => json::page(&text),
            Self::Protobuf => protobuf::page(text),
        }?;
        if page.metadata.resource_version.is_empty() {
            return Err(ResponseError::Malformed("a list without a resource version".to_owned()));
        }
        Ok(page)
    }

    /// Reads the status of a rejection.
    pub(super) fn status(self, text: Bytes) -> Result<ApiStatus, ResponseError> {
        match self {
            Self::Json => json::status(&text),
            Self::Protobuf => protobuf::status(text),
        }
    }
}

/// An object as received.
#[derive(Debug)]
pub(super) enum Parsed<R> {
    Object(R),
    /// With the metadata that could be read.
    Invalid(Box<Meta>, Vec<Rejection>),
}

impl<R: Resource> Parsed<R> {
    pub(super) fn metadata(&self) -> &Meta {
        match self {
            Self::Object(object) => object.metadata(),
            Self::Invalid(metadata, _) => metadata,
        }
    }

    fn invalid(metadata: Meta, field: &str, reason: &str) -> Self {
        let mut rejections = Rejections::of::<R>(&metadata);
        rejections.add(field, format_args!("{reason}: the object is not served"));
        let rejections = rejections.finish();
        Self::Invalid(metadata.into(), rejections)
    }
}

#[derive(Deserialize, Debug)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum WatchEvent<T> {
    #[serde(rename = "ADDED", alias = "MODIFIED")]
    Changed(T),
    /// The object is gone or no longer selected.
    Deleted(T),
    /// The watch has delivered everything up to the version of this object, which has nothing else.
    Bookmark(T),
    /// The server ends the watch.
    Error(ApiStatus),
}

impl<T> WatchEvent<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> WatchEvent<U> {
        match self {
            Self::Changed(object) => WatchEvent::Changed(map(object)),
            Self::Deleted(object) => WatchEvent::Deleted(map(object)),
            Self::Bookmark(object) => WatchEvent::Bookmark(map(object)),
            Self::Error(status) => WatchEvent::Error(status),
        }
    }
}

/// Returns whether the bookmark with these metadata ends the initial list of a watch.
pub(super) fn ends_list(bookmark: &Meta) -> bool {
    bookmark.annotation(LIST_ENDS) == Some("true")
}

#[derive(Deserialize, Debug)]
pub(super) struct Page<T> {
    pub(super) metadata: PageMeta,
    pub(super) items: Option<Vec<T>>,
}

impl<T> Page<T> {
    fn map<U>(self, map: impl Fn(T) -> U) -> Page<U> {
        let items = self.items.map(|items| items.into_iter().map(map).collect());
        Page { metadata: self.metadata, items }
    }
}

/// The `metadata` of a list.
#[derive(Deserialize, Message)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[prost(string, tag = "2")]
    pub(super) resource_version: String,
    /// The token of the next page.
    #[serde(rename = "continue")]
    #[prost(string, optional, tag = "3")]
    next: Option<String>,
}

impl PageMeta {
    pub(super) fn take_next(&mut self) -> Option<String> {
        self.next.take().filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests;
