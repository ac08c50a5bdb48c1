//! `metadata`.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Deserializer};

/// The part of `metadata` that matters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// `name`.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `namespace`; `default` where a manifest has none.
    pub namespace: Option<String>,
    /// `labels`.
    pub labels: Option<BTreeMap<String, String>>,
    /// `creationTimestamp`, RFC 3339.
    pub creation_timestamp: Option<String>,
    /// `deletionTimestamp`, RFC 3339.
    pub deletion_timestamp: Option<String>,
    /// `resourceVersion`.
    pub resource_version: Option<String>,
}

impl Meta {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The creation in Unix seconds, 0 where it is unknown.
    #[must_use]
    pub fn created(&self) -> i64 {
        let stamp = self.creation_timestamp.as_deref();
        stamp.and_then(|text| text.parse::<Timestamp>().ok()).map_or(0, |time| time.as_second())
    }
}

/// Takes `null` for the default, as the API server does.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
