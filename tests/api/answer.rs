//! Answers to requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use kube_ipvs::source::kubernetes::Encoding;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::TOKEN;
use super::body::{Body, Watch, body, counted, cut};
use super::discovery::{discovered, is_collection, kind_of};
use super::forward::switched;
use super::protobuf::Form;
use super::protobuf::fields::of_collection;
use super::selector::Selector;
use super::state::{Gone, Offer, Shared, State, StreamingLists};

pub type Answer = Response<Body>;

pub async fn answer(shared: Arc<Shared>, request: Request<Incoming>, is_secured: bool) -> Answer {
    let query: BTreeMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    let path = request.uri().path().to_owned();
    let asked = query.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    let line = format!("{} {path}?{}", request.method(), asked.join("&"));
    shared.note(|state| state.requests.push(line));
    let latency = shared.read(|state| state.faults.latency);
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let accepts_protobuf = accepted.is_some_and(|it| it.contains("kubernetes.protobuf"));
    let offer = shared.read(|state| state.faults.offer);
    if accepts_protobuf && offer == Offer::JsonAlone {
        return status(JSON, 406, "NotAcceptable", "only application/json is accepted");
    }
    let form = match of_collection(&without_namespace(&path).0) {
        Some(message) if accepts_protobuf && offer == Offer::Both => {
            Form { encoding: Encoding::Protobuf, message }
        }
        _ => JSON,
    };
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if is_secured && bearer != Some(&format!("Bearer {TOKEN}")) {
        return status(form, 401, "Unauthorized", "Unauthorized");
    }
    if let Some((code, retry_after)) = shared.read(|state| state.faults.refused.get(&path).copied())
    {
        let mut answer = status(form, code, "Refused", &format!("{path} is refused"));
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        return answer;
    }
    let answer = match *request.method() {
        Method::GET if path == "/version" => {
            reply(JSON, StatusCode::OK, &json!({ "major": "1", "minor": "34" }))
        }
        Method::GET if path.ends_with("/portforward") => {
            let port = query.get("ports").and_then(|it| it.parse().ok()).unwrap();
            forward(&shared, &path, port, request)
        }
        Method::GET => match discovered(&path) {
            Some(found) => reply(JSON, StatusCode::OK, &found),
            None => get(&shared, form, &path, &query),
        },
        Method::POST => create(&shared, request).await,
        Method::PATCH => patch(&shared, &path, request).await,
        Method::DELETE => delete(&shared, &path),
        _ => status(JSON, 405, "MethodNotAllowed", "the stand-in does not replace objects"),
    };
    let limit = shared.note(|state| {
        let cuts = &mut state.faults.cuts;
        let index = cuts.iter().position(|(collection, _)| *collection == path)?;
        Some(cuts.remove(index).1)
    });
    let answer = match limit {
        Some(limit) => answer.map(|body| cut(body, limit)),
        None => answer,
    };
    answer.map(|body| counted(body, shared))
}

/// Forwards a port of a pod that leads somewhere.
fn forward(shared: &Shared, path: &str, port: u16, request: Request<Incoming>) -> Answer {
    let (path, namespace) = without_namespace(path);
    let pod = path.split('/').rev().nth(1).unwrap();
    let key = format!("{}/{pod}", namespace.unwrap());
    match shared.read(|state| state.forwards.get(&key).copied()) {
        Some(to) => switched(request, port, to),
        None => status(JSON, 403, "Forbidden", "ports of this pod are not forwarded"),
    }
}

/// Creates an object, at the path of its namespace.
async fn create(shared: &Shared, request: Request<Incoming>) -> Answer {
    match json_of(request).await {
        Some(object) if object["metadata"]["resourceVersion"].is_string() => status(
            JSON,
            500,
            "InternalError",
            "resourceVersion should not be set on objects to be created",
        ),
        Some(object) if object["metadata"]["name"].is_string() => {
            if shared.change(|state| state.store.create(object.clone())) {
                reply(JSON, StatusCode::CREATED, &object)
            } else {
                status(JSON, 409, "AlreadyExists", "there is one of that name")
            }
        }
        _ => status(JSON, 422, "Invalid", "not an object with a name"),
    }
}

/// Patches an object with what is sent.
async fn patch(shared: &Shared, path: &str, request: Request<Incoming>) -> Answer {
    let (collection, key) = object_at(path);
    let Some(patch) = json_of(request).await else {
        return status(JSON, 400, "BadRequest", "the body is no JSON");
    };
    match shared.change(|state| state.store.patch(&collection, &key, &patch)) {
        Some(object) => reply(JSON, StatusCode::OK, &object),
        None => status(JSON, 404, "NotFound", "there is none of that name"),
    }
}

fn delete(shared: &Shared, path: &str) -> Answer {
    let (collection, key) = object_at(path);
    if shared.read(|state| state.store.get(&collection, &key)).is_none() {
        return status(JSON, 404, "NotFound", "there is none of that name");
    }
    shared.change(|state| state.store.delete(&collection, &key));
    let done = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    reply(JSON, StatusCode::OK, &done)
}

/// The collection and the key of the object at a path.
fn object_at(path: &str) -> (String, String) {
    let (path, namespace) = without_namespace(path);
    let (collection, name) = path.rsplit_once('/').unwrap();
    let key = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
    (collection.to_owned(), key)
}

async fn json_of(request: Request<Incoming>) -> Option<Value> {
    let text = request.into_body().collect().await.ok()?;
    serde_json::from_slice(&text.to_bytes()).ok()
}

/// The path without its `namespaces/NAME`, and that name.
fn without_namespace(path: &str) -> (String, Option<&str>) {
    let Some((root, rest)) = path.split_once("/namespaces/") else {
        return (path.to_owned(), None);
    };
    match rest.split_once('/') {
        Some((namespace, rest)) => (format!("{root}/{rest}"), Some(namespace)),
        None => (path.to_owned(), None),
    }
}

fn get(shared: &Arc<Shared>, form: Form, path: &str, query: &BTreeMap<String, String>) -> Answer {
    let (collection, key) = object_at(path);
    if is_collection(&collection) {
        return match shared.read(|state| state.store.get(&collection, &key)) {
            Some(object) => reply(JSON, StatusCode::OK, &object),
            None => status(form, 404, "NotFound", &format!("{key} not found")),
        };
    }
    let parameter = |name: &str| query.get(name).map_or("", String::as_str);
    let (path, namespace) = without_namespace(path);
    let path = path.as_str();
    let of_namespace = namespace.map(|namespace| format!("metadata.namespace={namespace}"));
    let fields = [parameter("fieldSelector"), of_namespace.as_deref().unwrap_or_default()];
    let selector = Selector::new(parameter("labelSelector"), &fields.join(","));
    let is_watch = matches!(parameter("watch"), "true" | "1");
    let asked = parameter("resourceVersion");
    let Ok(version) = (if asked.is_empty() { Ok(0) } else { asked.parse::<u64>() }) else {
        return status(form, 400, "BadRequest", &format!("Invalid value: {asked:?}"));
    };
    let now = shared.read(|state| state.store.version());
    let is_list = !is_watch || parameter("sendInitialEvents") == "true";
    if is_list && version > now && parameter("continue").is_empty() {
        let message = format!("Too large resource version: {version}, current: {now}");
        return status(form, 504, "Timeout", &message);
    }
    if is_watch {
        return watch(shared, form, path, query, selector, version);
    }
    shared.note(|state| list(state, form, path, query, &selector))
}

fn list(
    state: &mut State,
    form: Form,
    path: &str,
    query: &BTreeMap<String, String>,
    selector: &Selector,
) -> Answer {
    let parameter = |name: &str| query.get(name).map_or("", String::as_str);
    let token = parameter("continue");
    // A token says which version it goes on with, and how far the list has come.
    let (version, mut items) = if token.is_empty() {
        let mut items = state.store.all(path);
        items.retain(|object| selector.matches(object));
        (state.store.version(), items)
    } else {
        let version = token.split('.').next().and_then(|text| text.parse().ok());
        match (version, state.pages.remove(token)) {
            (Some(version), Some(items)) if !state.store.is_gone(version) => (version, items),
            _ => return status(form, 410, "Expired", "The provided continue parameter is too old"),
        }
    };
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    // From its cache, the server hands out a list as a whole.
    let limit = parameter("limit").parse().unwrap_or(0);
    if limit > 0 && items.len() > limit && parameter("resourceVersion") != "0" {
        let rest = items.split_off(limit);
        let token = format!("{version}.{}", state.requests.len());
        metadata["continue"] = token.clone().into();
        metadata["remainingItemCount"] = rest.len().into();
        state.pages.insert(token, rest);
    }
    // The objects of a list do not repeat their kind.
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.remove("kind");
        item.remove("apiVersion");
    }
    let (api, kind) = kind_of(path).unwrap_or(("v1", ""));
    let kind = format!("{kind}List");
    let list = json!({ "kind": kind, "apiVersion": api, "metadata": metadata, "items": items });
    reply(form, StatusCode::OK, &list)
}

fn watch(
    shared: &Arc<Shared>,
    form: Form,
    path: &str,
    query: &BTreeMap<String, String>,
    selector: Selector,
    version: u64,
) -> Answer {
    let parameter = |name: &str| query.get(name).map_or("", String::as_str);
    let (streaming, gone) = shared.read(|state| (state.faults.streaming, state.faults.gone));
    let mut is_streamed = parameter("sendInitialEvents") == "true";
    if is_streamed && streaming == StreamingLists::Refused {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch \
                       unless the WatchList feature gate is enabled";
        return status(form, 422, "Invalid", message);
    }
    is_streamed &= streaming == StreamingLists::Served;
    let begins_with_all = is_streamed || version == 0;
    let is_gone = !begins_with_all && shared.read(|state| state.store.is_gone(version));
    if is_gone && gone == Gone::AtStart {
        return status(form, 410, "Expired", "too old resource version");
    }
    let seconds = parameter("timeoutSeconds").parse().unwrap_or(300);
    let watch = Watch {
        form,
        path: path.to_owned(),
        selector,
        version,
        begins_with_all,
        ends_list: is_streamed,
        is_gone,
        has_bookmarks: parameter("allowWatchBookmarks") == "true",
        seconds,
    };
    Response::builder()
        .header(CONTENT_TYPE, form.content_type(true))
        .body(watch.body(Arc::clone(shared)))
        .unwrap()
}

/// A `Status`, as every refusal is told.
pub fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

const JSON: Form = Form { encoding: Encoding::Json, message: &[] };

fn status(form: Form, code: u16, reason: &str, message: &str) -> Answer {
    reply(form, StatusCode::from_u16(code).unwrap(), &failure(code, reason, message))
}

fn reply(form: Form, code: StatusCode, value: &Value) -> Answer {
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, form.content_type(false))
        .body(body(form.whole(value).into()))
        .unwrap()
}
