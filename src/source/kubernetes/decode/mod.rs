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
use super::resource::Resource;
use crate::source::wire::{ApiStatus, Meta, Rejection, Rejections};

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
    ) -> Result<WatchEvent<R::Object>, ResponseError> {
        match self {
            Self::Json => json::event::<R>(&text),
            Self::Protobuf => protobuf::event::<R>(text),
        }
    }

    pub(super) fn page<R: Resource>(self, text: Bytes) -> Result<Page<R::Object>, ResponseError> {
        let page = match self {
            Self::Json => json::page::<R>(&text),
            Self::Protobuf => protobuf::page::<R>(text),
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
pub(super) enum Parsed<T> {
    Object(T),
    Invalid(Box<Meta>, Vec<Rejection>),
}

impl<T> Parsed<T> {
    pub(super) fn metadata<R: Resource<Object = T>>(&self) -> &Meta {
        match self {
            Self::Object(object) => R::metadata(object),
            Self::Invalid(metadata, _) => metadata,
        }
    }

    /// Returns an invalid object with the metadata that is known.
    fn invalid<R: Resource<Object = T>>(metadata: Meta, field: &str, reason: &str) -> Self {
        let mut rejections = Rejections::of(R::KIND, &metadata.namespace, &metadata.name);
        rejections.add(field, format_args!("{reason}: the object is not served"));
        let rejections = rejections.finish();
        Self::Invalid(metadata.into(), rejections)
    }
}

#[derive(Debug)]
pub(super) enum WatchEvent<T> {
    /// The object is new or has changed.
    Changed(Parsed<T>),
    /// The object is gone or no longer selected.
    Deleted(Meta),
    /// The watch has delivered everything up to this version.
    Bookmark {
        version: String,
        /// Whether the initial list of the watch is complete.
        ends_list: bool,
    },
    /// The server ends the watch.
    Error(ResponseError),
}

impl<T> WatchEvent<T> {
    fn bookmark(metadata: Meta) -> Self {
        let ends_list = metadata.annotation(LIST_ENDS) == Some("true");
        Self::Bookmark { ends_list, version: metadata.resource_version }
    }
}

#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) metadata: PageMeta,
    pub(super) objects: Vec<Parsed<T>>,
}

/// The `metadata` of a list.
#[derive(Deserialize, Message)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    /// The version of the list.
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

/// An object of any kind, with only its metadata.
#[derive(Deserialize, Message)]
struct Identity {
    #[prost(message, required, tag = "1")]
    metadata: Meta,
}

#[cfg(test)]
mod tests;
