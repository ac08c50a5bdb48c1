//! The chart, rendered by Helm's own libraries: `tests/chart/src/render`.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::kustomize::documents_of;

/// What a chart makes of values: objects, or an error for the operator.
pub type Rendered = Result<Vec<Value>, String>;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    texts: BTreeMap<String, String>,
    #[serde(default)]
    error: String,
}

/// Renders the chart for each of the values, by name; `None` without Go and its libraries, or if
/// `CHART_TESTS` is `skip`. If it is `required`, missing ones are a failure.
pub fn render(cases: &BTreeMap<String, Value>) -> Option<BTreeMap<String, Rendered>> {
    let wish = env::var("CHART_TESTS").unwrap_or_default();
    if wish == "skip" {
        return None;
    }
    let libraries = Path::new("/usr/share/gocode");
    let needed = ["Masterminds/sprig", "xeipuuv/gojsonschema"];
    let is_there = needed.iter().all(|name| libraries.join("src/github.com").join(name).exists());
    let go = Command::new("go").arg("version").output();
    if !is_there || go.is_err() {
        let advice = "install Go, Sprig, gojsonschema and yaml, on Debian by hack/setup chart";
        assert!(wish != "required", "charts cannot be rendered: {advice}");
        eprintln!("skipped: charts cannot be rendered: {advice}");
        return None;
    }
    let ours = Path::new(ROOT).join("tests/chart");
    let mut renderer = Command::new("go")
        .args(["run", "render", "charts/kube-ipvs"])
        .current_dir(ROOT)
        .env("GO111MODULE", "off")
        .env("GOPATH", env::join_paths([ours.as_path(), libraries]).unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = serde_json::to_vec(cases).unwrap();
    renderer.stdin.take().unwrap().write_all(&text).unwrap();
    let done = renderer.wait_with_output().unwrap();
    assert!(done.status.success(), "the renderer failed");
    let answers: BTreeMap<String, Answer> = serde_json::from_slice(&done.stdout).unwrap();
    Some(answers.into_iter().map(|(name, answer)| (name, objects(answer))).collect())
}

fn objects(answer: Answer) -> Rendered {
    if !answer.error.is_empty() {
        return Err(answer.error);
    }
    let mut objects = Vec::new();
    for (template, text) in answer.texts {
        if template.ends_with(".yaml") {
            objects
                .extend(documents_of(&text).map_err(|why| format!("{template}: {why}\n{text}"))?);
        }
    }
    Ok(objects)
}
