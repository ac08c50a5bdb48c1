//! Pages and events in JSON.
//!
//! An object is parsed directly into its lean type. Only if that fails, the text is parsed again as
//! plain JSON.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::answer::ResponseError;
use super::{Page, Parsed, WatchEvent};
use crate::source::wire::{ApiStatus, Meta, Resource, parse};

pub(super) fn event<R: Resource>(text: &[u8]) -> Result<WatchEvent<Parsed<R>>, ResponseError> {
    match parse::<WatchEvent<R>>(text) {
        Ok(event) => Ok(event.map(Parsed::Object)),
        Err(error) => Ok(again::<WatchEvent<Value>>(text, &error)?.map(apart)),
    }
}

pub(super) fn page<R: Resource>(text: &[u8]) -> Result<Page<Parsed<R>>, ResponseError> {
    match parse::<Page<R>>(text) {
        Ok(page) => Ok(page.map(Parsed::Object)),
        Err(error) => Ok(again::<Page<Value>>(text, &error)?.map(apart)),
    }
}

pub(super) fn status(text: &[u8]) -> Result<ApiStatus, ResponseError> {
    parse(text).map_err(|error| ResponseError::Malformed(error.to_string()))
}

fn again<T: DeserializeOwned>(text: &[u8], error: &serde_json::Error) -> Result<T, ResponseError> {
    parse(text).map_err(|_| ResponseError::Malformed(error.to_string()))
}

fn apart<R: Resource>(value: Value) -> Parsed<R> {
    let metadata = metadata(&value);
    serde_path_to_error::deserialize(value).map_or_else(
        |error| Parsed::invalid(metadata, &error.path().to_string(), &error.inner().to_string()),
        Parsed::Object,
    )
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
