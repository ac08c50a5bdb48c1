//! The configuration as `/configz` shows it.

use serde_json::{Map, Value};

use super::{Config, document, write};

/// Everything that is configured, under the API groups of its documents: kube-proxy's as kube-proxy
/// shows it, and ours. It is what [`write()`] writes, so that the two never differ, but for the
/// node's name, which a file had better not fix.
#[must_use]
pub fn show(config: &Config) -> Value {
    let mut groups = Map::new();
    for mut document in document::parse_values(&write(config)).unwrap_or_default().0 {
        let version = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let group = version.split('/').next().unwrap_or_default().to_owned();
        if let Some(name) = document.get_mut("hostnameOverride") {
            *name = Value::from(&*config.settings.node_name);
        }
        groups.insert(group, document);
    }
    groups.into()
}
