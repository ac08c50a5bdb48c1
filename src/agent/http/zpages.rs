//! `/statusz` and `/flagz`, as Kubernetes' components have them (`component-base/zpages`): text for
//! people, or a versioned object if the request accepts it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hyper::StatusCode;
use k8s_openapi::jiff::Timestamp;
use kube_ipvs_core::model::NAME;
use serde_json::{Value, json};

use super::routes::{json, say};
use super::server::Answer;
use crate::agent::timestamp::rfc3339;
use crate::build::{COMMIT, VERSION};

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting \
                       compatibility guarantees and is for debugging purposes only.";
/// What the metrics address answers.
const PATHS: [&str; 13] = [
    "/",
    "/configz",
    "/connections",
    "/explain",
    "/flagz",
    "/healthz",
    "/livez",
    "/metrics",
    "/metrics/slis",
    "/proxyMode",
    "/readyz",
    "/status",
    "/statusz",
];
/// The versions of the structured answers.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// The form of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PageForm {
    Text,
    /// An object of `config.k8s.io` in this version.
    Object(&'static str),
    /// JSON without a version.
    NotAcceptable,
}

impl PageForm {
    /// Reads an `Accept` header such as `application/json;v=v1beta1;g=config.k8s.io;as=Statusz`. The
    /// first media type counts that is answered.
    fn of(accept: &str, kind: &str) -> Self {
        let mut form = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let has = |name, value| parameters.contains(&(name, value));
            match media {
                "" | "*/*" | "text/*" | "text/plain" => return Self::Text,
                "application/json" => {
                    let version = VERSIONS.into_iter().find(|version| has("v", version));
                    match version.filter(|_| has("g", "config.k8s.io") && has("as", kind)) {
                        Some(version) => return Self::Object(version),
                        None => form = Some(Self::NotAcceptable),
                    }
                }
                _ => {}
            }
        }
        form.unwrap_or(Self::NotAcceptable)
    }
}

fn page(
    accept: &str,
    kind: &str,
    text: impl FnOnce() -> String,
    fields: impl FnOnce() -> Value,
) -> Answer {
    match PageForm::of(accept, kind) {
        PageForm::Text => say(StatusCode::OK, text()),
        PageForm::Object(version) => {
            let mut object = json!({
                "kind": kind,
                "apiVersion": format!("config.k8s.io/{version}"),
                "metadata": {"name": NAME},
            });
            if let (Some(object), Value::Object(mut fields)) = (object.as_object_mut(), fields()) {
                object.append(&mut fields);
            }
            json(StatusCode::OK, &object)
        }
        PageForm::NotAcceptable => say(
            StatusCode::NOT_ACCEPTABLE,
            format!(
                "accept text/plain or application/json;v={};g=config.k8s.io;as={kind}",
                VERSIONS[0]
            ),
        ),
    }
}

pub(super) fn statusz(accept: &str, started: SystemTime, now: SystemTime) -> Answer {
    let up = now.duration_since(started).unwrap_or_default().as_secs();
    let version = format!("{VERSION} ({COMMIT})");
    let text = || {
        // As Go's `time.UnixDate`.
        let date = Timestamp::try_from(started).unwrap_or_default();
        let date = date.strftime("%a %b %e %H:%M:%S UTC %Y");
        format!(
            "\n{NAME} statusz\n{WARNING}\n\nStarted: {date}\nUp: {} hr {:02} min {:02} sec\n\
             Binary version: {version}\nPaths: {}\n",
            up / 3600,
            up / 60 % 60,
            up % 60,
            PATHS.join(" ")
        )
    };
    let fields = || {
        json!({
            "startTime": rfc3339(started),
            "uptimeSeconds": up,
            "binaryVersion": version,
            "paths": PATHS,
        })
    };
    page(accept, "Statusz", text, fields)
}

pub(super) fn flagz(accept: &str, flags: &BTreeMap<String, String>) -> Answer {
    let text = || {
        let lines: String = flags.iter().map(|(flag, value)| format!("{flag}={value}\n")).collect();
        format!("\n{NAME} flags\n{WARNING}\n\n{lines}")
    };
    page(accept, "Flagz", text, || json!({ "flags": flags }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_answered_to_those_that_name_its_version() {
        let object = "application/json;v=v1beta1;g=config.k8s.io;as=Statusz";
        for (accept, form) in [
            ("", PageForm::Text),
            ("*/*", PageForm::Text),
            ("text/html, */*;q=0.8", PageForm::Text),
            (object, PageForm::Object("v1beta1")),
            (
                "application/json; v=v1alpha1; g=config.k8s.io; as=Statusz",
                PageForm::Object("v1alpha1"),
            ),
            ("application/json", PageForm::NotAcceptable),
            ("application/json, text/plain", PageForm::Text),
            ("image/png", PageForm::NotAcceptable),
        ] {
            assert_eq!(PageForm::of(accept, "Statusz"), form, "{accept}");
        }
        assert_eq!(PageForm::of(object, "Flagz"), PageForm::NotAcceptable);
    }
}
