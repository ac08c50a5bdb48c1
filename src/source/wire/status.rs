//! The status of a rejected request.

use prost::Message;
use serde::Deserialize;

use super::meta::or_default;

/// The relevant part of a `Status`.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct ApiStatus {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "3")]
    pub message: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "5")]
    details: Details,
    /// The HTTP status code.
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
    /// Returns the seconds after which the server asks for another attempt, if any.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        u32::try_from(self.details.retry_after_seconds).ok().filter(|seconds| *seconds > 0)
    }
}
