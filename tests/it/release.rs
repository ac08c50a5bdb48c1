//! The workflows of a release, as far as they can be checked without the service that runs them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the steps of all workflows.
fn steps() -> Vec<Value> {
    let files = fs::read_dir(root().join(".github/workflows")).unwrap();
    let mut steps = Vec::new();
    for file in files {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        for job in workflow["jobs"].as_object().unwrap().values() {
            assert!(job["timeout-minutes"].is_u64(), "{job}");
            steps.extend(job["steps"].as_array().unwrap().iter().cloned());
        }
    }
    steps
}

/// Returns the steps that `hack/release` has.
fn known_steps() -> BTreeSet<String> {
    let script = fs::read_to_string(root().join("hack/release")).unwrap();
    let functions = script.lines().filter_map(|line| line.strip_suffix("() {"));
    functions.map(str::to_owned).collect()
}

#[test]
fn each_step_of_a_workflow_is_a_script_of_the_repository() {
    let known = known_steps();
    let steps = steps();
    let runs: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(runs.contains(&".ci/run") && runs.contains(&"hack/release archives"), "{runs:?}");
    for run in runs {
        let words: Vec<_> = run.split_whitespace().collect();
        let script = root().join(words[0]);
        let mode = fs::metadata(&script).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{run}");
        if words[0] == "hack/release" {
            assert!(known.contains(words[1]), "{run}");
        }
    }
}

#[test]
fn actions_and_base_images_are_named_by_digest() {
    for step in steps() {
        let Some(action) = step["uses"].as_str() else { continue };
        let (_, digest) = action.split_once('@').unwrap();
        let is_commit = digest.len() == 40 && digest.bytes().all(|it| it.is_ascii_hexdigit());
        assert!(is_commit, "{action}");
    }
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let bases = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM "));
    for base in bases.filter(|base| *base != "scratch") {
        assert!(base.contains("@sha256:"), "{base}");
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let run = |arguments: &[&str]| {
        let output = Command::new(root().join("hack/release")).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let version = env!("CARGO_PKG_VERSION");
    let tag = format!("v{version}");
    for arguments in [["check", &tag], ["notes", &tag]] {
        assert_eq!(run(&arguments), (true, String::new()));
    }
    let (succeeded, error) = run(&["check", "v99.0.0"]);
    assert!(!succeeded && error.contains("has version"), "{error}");
}
