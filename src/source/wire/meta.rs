//! The `metadata` of objects.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use prost::Message;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Annotation of a slice: the time of the change that caused this version, in RFC 3339.
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The relevant part of `metadata`.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    pub name: String,
    /// Empty without a namespace.
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "6")]
    pub resource_version: String,
    #[prost(message, optional, tag = "8")]
    pub creation_timestamp: Option<Time>,
    #[prost(message, optional, tag = "9")]
    pub deletion_timestamp: Option<Time>,
    #[serde(deserialize_with = "entries")]
    #[prost(message, repeated, tag = "11")]
    labels: Vec<LabelEntry>,
    #[serde(deserialize_with = "entries")]
    #[prost(message, repeated, tag = "12")]
    annotations: Vec<LabelEntry>,
}

/// A time: RFC 3339 in JSON. An invalid time becomes the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Message)]
#[serde(from = "String")]
pub struct Time {
    /// Unix seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
}

impl From<String> for Time {
    fn from(text: String) -> Self {
        Self { seconds: text.parse().map_or(0, Timestamp::as_second) }
    }
}

/// An entry of a map of strings, as in protobuf. A client that writes annotations in protobuf may
/// write invalid UTF-8, which must not invalidate the object.
#[derive(Clone, PartialEq, Eq, Message)]
struct LabelEntry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Meta {
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self.namespace.as_str() {
            "" => "default",
            namespace => namespace,
        }
    }

    /// Returns the creation in Unix seconds, or 0 if it is unknown.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.creation_timestamp.map_or(0, |time| time.seconds)
    }

    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        value_of(&self.labels, key)
    }

    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value_of(&self.annotations, key)
    }

    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        texts(&self.labels)
    }

    pub fn annotations(&self) -> impl Iterator<Item = (&str, &str)> {
        texts(&self.annotations)
    }

    /// Returns the time of a slice's change in Unix milliseconds. An invalid time is ignored,
    /// because only a metric needs it.
    #[must_use]
    pub fn triggered(&self) -> Option<i64> {
        self.annotation(LAST_CHANGE)?.parse().ok().map(Timestamp::as_millisecond)
    }
}

/// Returns the entries that are text.
fn texts(entries: &[LabelEntry]) -> impl Iterator<Item = (&str, &str)> {
    let text = |bytes| str::from_utf8(bytes).ok();
    entries.iter().filter_map(move |it| Some((text(&it.key)?, text(&it.value)?)))
}

fn value_of<'a>(entries: &'a [LabelEntry], key: &str) -> Option<&'a str> {
    let entry = entries.iter().rfind(|entry| entry.key == key.as_bytes())?;
    str::from_utf8(&entry.value).ok()
}

/// Reads a map of strings. Other values, which manifests may contain, are left out.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<LabelEntry>, D::Error> {
    let map: BTreeMap<String, Value> = or_default(deserializer)?;
    let entry = |(key, value): (String, Value)| match value {
        Value::String(value) => {
            Some(LabelEntry { key: key.into_bytes(), value: value.into_bytes() })
        }
        _ => None,
    };
    Ok(map.into_iter().filter_map(entry).collect())
}

/// Accepts `null` as the default, as the API server does.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a text as bytes, which it is in protobuf.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    or_default::<D, String>(deserializer).map(String::into_bytes)
}
