//! `metadata`.

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
    #[serde(deserialize_with = "or_default")]
    pub labels: Labels,
    /// `annotations`.
    #[serde(deserialize_with = "or_default")]
    pub annotations: Annotations,
    /// `creationTimestamp`, RFC 3339.
    pub creation_timestamp: Option<String>,
    /// `deletionTimestamp`, RFC 3339.
    pub deletion_timestamp: Option<String>,
    /// `resourceVersion`.
    pub resource_version: Option<String>,
}

/// The labels that matter. Others are not kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    /// Of a slice: [`super::SERVICE_NAME`].
    #[serde(rename = "kubernetes.io/service-name")]
    pub service_name: Option<String>,
    /// Of a slice: [`super::HEADLESS`].
    #[serde(rename = "service.kubernetes.io/headless")]
    pub headless: Option<String>,
    /// Of a Service: [`super::SERVICE_PROXY_NAME`].
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub service_proxy_name: Option<String>,
    /// Of a Node: where it is.
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub zone: Option<String>,
}

/// The annotations that matter. Others, which may be long, are not kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Of a slice: when the change happened that it was last written for, RFC 3339.
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub last_change_trigger_time: Option<String>,
}

impl Meta {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
    }

    /// The creation in Unix seconds, 0 where it is unknown.
    #[must_use]
    pub fn created(&self) -> i64 {
        let stamp = self.creation_timestamp.as_deref();
        stamp.and_then(|text| text.parse::<Timestamp>().ok()).map_or(0, |time| time.as_second())
    }
}

impl Annotations {
    /// When the change of a slice happened, in Unix milliseconds. An odd time is as good as none:
    /// only a metric needs it.
    #[must_use]
    pub fn triggered(&self) -> Option<i64> {
        let text = self.last_change_trigger_time.as_deref()?;
        text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
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
