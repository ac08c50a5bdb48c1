//! What the API server says: pages of lists, events of watches.
//!
//! An object that cannot be read is told apart from its neighbours and named, and costs none of them.

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

/// A bookmark with this annotation ends the list that a watch began with.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// How an answer is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// A watch is a line for each event.
    Json,
    /// Kubernetes' own: each object in an envelope, a watch in frames.
    Protobuf,
}

impl Encoding {
    /// What a request accepts: protobuf has three fifths of the bytes and takes less than half of the
    /// work. An API server has it for every kind of its own; what stands in for one may not.
    pub(super) const ACCEPTED: &str = "application/vnd.kubernetes.protobuf, application/json;q=0.9";
    /// What it accepts where a server is put off by that.
    pub(super) const ACCEPTED_AT_LEAST: &str = "application/json";

    /// That of an answer with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        // A watch has `;stream=watch` after it.
        let of = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if of.starts_with(b"application/vnd.kubernetes.protobuf") {
            Self::Protobuf
        } else {
            Self::Json
        }
    }

    /// Reads an event of a watch.
    pub(super) fn event<R: Resource>(
        self,
        text: Bytes,
    ) -> Result<WatchEvent<R::Object>, ResponseError> {
        match self {
            Self::Json => json::event::<R>(&text),
            Self::Protobuf => protobuf::event::<R>(text),
        }
    }

    /// Reads a page of a list.
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

    /// Reads a refusal.
    pub(super) fn status(self, text: Bytes) -> Result<ApiStatus, ResponseError> {
        match self {
            Self::Json => json::status(&text),
            Self::Protobuf => protobuf::status(text),
        }
    }
}

/// One object as it came.
#[derive(Debug)]
pub(super) enum Parsed<T> {
    /// In its shape.
    Object(T),
    /// Out of shape.
    Odd(Box<Meta>, Vec<Rejection>),
}

impl<T> Parsed<T> {
    pub(super) fn metadata<R: Resource<Object = T>>(&self) -> &Meta {
        match self {
            Self::Object(object) => R::metadata(object),
            Self::Odd(metadata, _) => metadata,
        }
    }

    /// One that cannot be read, of which as much is known.
    fn odd<R: Resource<Object = T>>(metadata: Meta, field: &str, reason: &str) -> Self {
        let mut rejections = Rejections::of(R::KIND, &metadata.namespace, &metadata.name);
        rejections.add(field, format_args!("{reason}: the object is not served"));
        let rejections = rejections.finish();
        Self::Odd(metadata.into(), rejections)
    }
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum WatchEvent<T> {
    /// The object is new or has changed.
    Changed(Parsed<T>),
    /// The object is gone, or is no longer among those asked for.
    Deleted(Meta),
    /// Nothing up to this version has been left out.
    Bookmark {
        /// The version.
        version: String,
        /// Whether the list that the watch began with is complete.
        ends_list: bool,
    },
    /// The server gives the watch up.
    Error(ResponseError),
}

impl<T> WatchEvent<T> {
    fn bookmark(metadata: Meta) -> Self {
        let ends_list = metadata.annotation(LIST_ENDS) == Some("true");
        Self::Bookmark { ends_list, version: metadata.resource_version }
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) metadata: PageMeta,
    pub(super) objects: Vec<Parsed<T>>,
}

/// `metadata` of a list.
#[derive(Deserialize, Message)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    /// The version that the list shows.
    #[prost(string, tag = "2")]
    pub(super) resource_version: String,
    /// Where the next page begins.
    #[serde(rename = "continue")]
    #[prost(string, optional, tag = "3")]
    next: Option<String>,
}

impl PageMeta {
    /// Where the next page begins, if there is one.
    pub(super) fn take_next(&mut self) -> Option<String> {
        self.next.take().filter(|token| !token.is_empty())
    }
}

/// An object of any kind, of which only the metadata is read.
#[derive(Deserialize, Message)]
struct Identity {
    #[prost(message, required, tag = "1")]
    metadata: Meta,
}

#[cfg(test)]
mod tests;
