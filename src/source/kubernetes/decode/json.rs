//! Pages and events in JSON.
//!
//! An object is parsed directly into its lean type. Only if that fails, the text is parsed again as
//! plain JSON.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::answer::ResponseError;
use super::super::resource::Resource;
use super::{Identity, Page, PageMeta, Parsed, WatchEvent};
use crate::source::wire::{ApiStatus, Meta, parse};

#[derive(Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
enum JsonEvent<T> {
    Added(T),
    Modified(T),
    Deleted(T),
    Bookmark(Identity),
    Error(ApiStatus),
}

pub(super) fn event<R: Resource>(text: &[u8]) -> Result<WatchEvent<R::Object>, ResponseError> {
    let event = match parse::<JsonEvent<R::Object>>(text) {
        Ok(event) => map(event, Parsed::Object, |object| R::metadata(object).clone()),
        Err(error) => {
            let malformed = |_| ResponseError::Malformed(error.to_string());
            let event: JsonEvent<Value> = parse(text).map_err(malformed)?;
            map(event, apart::<R>, metadata)
        }
    };
    Ok(event)
}

fn map<O, T>(
    event: JsonEvent<O>,
    parsed: impl Fn(O) -> Parsed<T>,
    metadata: impl Fn(&O) -> Meta,
) -> WatchEvent<T> {
    match event {
        JsonEvent::Added(object) | JsonEvent::Modified(object) => {
            WatchEvent::Changed(parsed(object))
        }
        JsonEvent::Deleted(object) => WatchEvent::Deleted(metadata(&object)),
        JsonEvent::Bookmark(bookmark) => WatchEvent::bookmark(bookmark.metadata),
        JsonEvent::Error(status) => WatchEvent::Error(ResponseError::refused(status)),
    }
}

#[derive(Deserialize)]
struct JsonPage<T> {
    metadata: PageMeta,
    items: Option<Vec<T>>,
}

pub(super) fn page<R: Resource>(text: &[u8]) -> Result<Page<R::Object>, ResponseError> {
    match parse::<JsonPage<R::Object>>(text) {
        Ok(page) => Ok(objects(page, Parsed::Object)),
        Err(error) => {
            let malformed = |_| ResponseError::Malformed(error.to_string());
            let page: JsonPage<Value> = parse(text).map_err(malformed)?;
            Ok(objects(page, apart::<R>))
        }
    }
}

fn objects<O, T>(page: JsonPage<O>, parsed: impl Fn(O) -> Parsed<T>) -> Page<T> {
    let objects = page.items.into_iter().flatten().map(parsed).collect();
    Page { metadata: page.metadata, objects }
}

pub(super) fn status(text: &[u8]) -> Result<ApiStatus, ResponseError> {
    parse(text).map_err(|error| ResponseError::Malformed(error.to_string()))
}

fn apart<R: Resource>(value: Value) -> Parsed<R::Object> {
    let metadata = metadata(&value);
    match at_path(value) {
        Ok(object) => Parsed::Object(object),
        Err((field, reason)) => Parsed::invalid::<R>(metadata, &field, &reason),
    }
}

fn at_path<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// Returns the metadata that identifies the object.
fn metadata(value: &Value) -> Meta {
    let text =
        |field: &str| value.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut metadata = Meta::default();
    metadata.name = text("/metadata/name");
    metadata.namespace = text("/metadata/namespace");
    metadata.resource_version = text("/metadata/resourceVersion");
    metadata
}
