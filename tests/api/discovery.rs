//! What the server has, as `kubectl` asks before it does anything.

use serde_json::{Value, json};

/// Group and version, plural name, kind, and whether it has namespaces.
const RESOURCES: [(&str, &str, &str, bool); 10] = [
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "nodes", "Node", false),
    ("v1", "pods", "Pod", true),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("v1", "services", "Service", true),
    ("apps/v1", "daemonsets", "DaemonSet", true),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    ("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", false),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", false),
];

fn root(api: &str) -> String {
    if api.contains('/') { format!("/apis/{api}") } else { format!("/api/{api}") }
}

/// The groups with their versions; the oldest API has none.
fn versions() -> Vec<&'static str> {
    let mut all: Vec<_> = RESOURCES.iter().map(|(api, ..)| *api).collect();
    all.dedup();
    all
}

/// Whether a path is that of all objects of a kind.
pub fn is_collection(path: &str) -> bool {
    kind_of(path).is_some()
}

/// The kind of the objects of a collection, with its version.
pub fn kind_of(collection: &str) -> Option<(&'static str, &'static str)> {
    let is_it = |(api, plural, ..): &&(&str, &str, &str, bool)| {
        format!("{}/{plural}", root(api)) == collection
    };
    RESOURCES.iter().find(is_it).map(|(api, _, kind, _)| (*api, *kind))
}

/// Answers what is asked of the API itself.
pub fn discovered(path: &str) -> Option<Value> {
    match path {
        "/api" => Some(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        "/apis" => {
            let group = |api: &&str| {
                let (name, version) = api.split_once('/')?;
                let version = json!({ "groupVersion": api, "version": version });
                Some(json!({
                    "name": name, "versions": [version], "preferredVersion": version,
                }))
            };
            let groups: Vec<_> = versions().iter().filter_map(group).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        "/openapi/v3" => {
            let entry = |api: &str| {
                let path = root(api).trim_start_matches('/').to_owned();
                let place = json!({ "serverRelativeURL": format!("/openapi/v3/{path}") });
                (path, place)
            };
            let paths: serde_json::Map<_, _> = versions().into_iter().map(entry).collect();
            Some(json!({ "paths": paths }))
        }
        _ => match path.strip_prefix("/openapi/v3") {
            Some(rest) => schema(rest),
            None => resources(path),
        },
    }
}

fn of_path(
    path: &str,
) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str, bool)> {
    RESOURCES.iter().filter(move |(api, ..)| root(api) == path)
}

fn resources(path: &str) -> Option<Value> {
    let one = |(_, plural, kind, namespaced): &(&str, &str, &str, bool)| {
        json!({
            "name": plural, "singularName": kind.to_lowercase(), "kind": kind,
            "namespaced": namespaced,
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        })
    };
    let list: Vec<_> = of_path(path).map(one).collect();
    let api = path.trim_start_matches("/apis/").trim_start_matches("/api/");
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": list,
        })
    })
}

/// No schema, but that the server itself judges unknown fields.
fn schema(path: &str) -> Option<Value> {
    let one = |(api, plural, kind, namespaced): &(&str, &str, &str, bool)| {
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        let namespace = if *namespaced { "/namespaces/{namespace}" } else { "" };
        let parameter = json!([{ "name": "fieldValidation", "in": "query" }]);
        let operation = json!({
            "parameters": parameter,
            "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
        });
        (format!("{path}{namespace}/{plural}/{{name}}"), json!({ "patch": operation }))
    };
    let paths: serde_json::Map<_, _> = of_path(path).map(one).collect();
    let info = json!({ "title": "stand-in", "version": "v1.34.0" });
    (!paths.is_empty()).then(|| json!({ "openapi": "3.0.0", "info": info, "paths": paths }))
}
