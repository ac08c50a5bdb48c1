//! Refusals.

use prost::Message;
use serde::Deserialize;

use super::meta::or_default;

/// Why the API server refuses, as far as it matters.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct ApiStatus {
    /// `message`.
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "3")]
    pub message: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "5")]
    details: Details,
    /// `code`, of HTTP.
    #[serde(deserialize_with = "or_default")]
    #[prost(int32, tag = "6")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    #[serde(deserialize_with = "or_default")]
    #[prost(int32, tag = "5")]
    retry_after_seconds: i32,
}

impl ApiStatus {
    /// After how many seconds the server wants to be asked again, if it says so.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        u32::try_from(self.details.retry_after_seconds).ok().filter(|seconds| *seconds > 0)
    }
}
