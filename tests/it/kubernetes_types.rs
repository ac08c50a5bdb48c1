//! Objects have the fields that Kubernetes gives their kinds, and no others.

use std::collections::HashSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Checks an object against the schema of its kind, and against what the API server checks besides.
pub fn check(object: &Value) -> Result<(), String> {
    let kind = object["kind"].as_str().unwrap_or_default();
    match (object["apiVersion"].as_str().unwrap_or_default(), kind) {
        ("v1", "ConfigMap") => fits::<ConfigMap>(object),
        ("v1", "Service") => fits::<Service>(object),
        ("v1", "ServiceAccount") => fits::<ServiceAccount>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => fits::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            fits::<ClusterRoleBinding>(object)
        }
        ("rbac.authorization.k8s.io/v1", "Role") => fits::<Role>(object),
        ("apps/v1", "DaemonSet") => fits::<DaemonSet>(object).and_then(|()| daemon_set(object)),
        ("monitoring.coreos.com/v1", _) => {
            let fields: Vec<_> = of_prometheus(kind)?.split_whitespace().collect();
            has_only(&object["spec"], "spec", &fields)
        }
        (version, _) => Err(format!("{version}, {kind} has no schema here")),
    }
    .map_err(|reason| format!("{kind} {}: {reason}", object["metadata"]["name"]))
}

/// An object that keeps everything when it is read and written has no field that its type lacks.
fn fits<T: Serialize + DeserializeOwned>(object: &Value) -> Result<(), String> {
    let read: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    let written = serde_json::to_value(read).map_err(|error| error.to_string())?;
    keeps(object, &written, "")
}

fn keeps(before: &Value, after: &Value, path: &str) -> Result<(), String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.iter().try_for_each(|(key, value)| {
                let path = format!("{path}.{key}");
                let after = after.get(key).ok_or_else(|| format!("there is no field {path}"))?;
                keeps(value, after, &path)
            })
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            before.iter().zip(after).try_for_each(|(before, after)| keeps(before, after, path))
        }
        _ if before == after => Ok(()),
        _ => Err(format!("{path}: {before} is read as {after}")),
    }
}

/// What the API server refuses of a DaemonSet, although it fits the schema.
fn daemon_set(object: &Value) -> Result<(), String> {
    let spec = &object["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    keeps(&spec["selector"]["matchLabels"], labels, ".selector")?;
    let update = &spec["updateStrategy"]["rollingUpdate"];
    let is_some = |field: &str| {
        let value = &update[field];
        !value.is_null() && ![Value::from(0), "0%".into(), "0".into()].contains(value)
    };
    let pod = &spec["template"]["spec"];
    if is_some("maxSurge") {
        let ports = pod["containers"].as_array().into_iter().flatten().map(|it| &it["ports"]);
        if ports.filter_map(Value::as_array).any(|ports| !ports.is_empty()) {
            return Err("maxSurge with ports of the node".to_owned());
        }
        if is_some("maxUnavailable") {
            return Err("maxSurge and maxUnavailable".to_owned());
        }
    }
    for container in pod["containers"].as_array().into_iter().flatten() {
        let names = container["env"].as_array().into_iter().flatten().map(|it| it["name"].as_str());
        let mut seen = HashSet::new();
        if let Some(name) = names.flatten().find(|name| !seen.insert(*name)) {
            return Err(format!("variable {name} twice"));
        }
    }
    Ok(())
}

/// The fields in use of the Prometheus Operator's kinds, of which there are no types here. What is under
/// labels and annotations is free.
fn of_prometheus(kind: &str) -> Result<&'static str, String> {
    match kind {
        "PodMonitor" => {
            Ok("selector matchLabels podMetricsEndpoints port path interval relabelings \
                            sourceLabels targetLabel")
        }
        "ServiceMonitor" => Ok("selector matchLabels endpoints port path interval relabelings \
                                sourceLabels targetLabel"),
        "PrometheusRule" => Ok("groups name rules alert expr for labels annotations"),
        _ => Err("not a kind of the Prometheus Operator".to_owned()),
    }
}

fn has_only(value: &Value, path: &str, fields: &[&str]) -> Result<(), String> {
    const FREE: [&str; 3] = ["matchLabels", "labels", "annotations"];
    match value {
        Value::Object(object) => object.iter().try_for_each(|(key, value)| {
            let path = format!("{path}.{key}");
            if !fields.contains(&key.as_str()) {
                return Err(format!("there is no field {path}"));
            }
            if FREE.contains(&key.as_str()) { Ok(()) } else { has_only(value, &path, fields) }
        }),
        Value::Array(list) => list.iter().try_for_each(|value| has_only(value, path, fields)),
        _ => Ok(()),
    }
}
