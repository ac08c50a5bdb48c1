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
    let refused = [
        (vec!["check", "v99.0.0"], "has version"),
        // Begins the version's section of the CHANGELOG.
        (vec!["notes", &version[..3]], "says nothing of"),
        (vec!["notes", "v"], "says nothing of"),
        (vec!["check", ""], "give a version"),
        (vec!["all"], "give a version"),
        (vec!["publish"], "give a version"),
    ];
    for (arguments, reason) in refused {
        let (succeeded, error) = run(&arguments);
        assert!(!succeeded && error.contains(reason), "{arguments:?}: {error}");
    }
}

/// Runs a step with programs that say how they were called, and returns what they said.
fn step(arguments: &[&str], stand_ins: &[(&str, &str)]) -> (bool, String) {
    let programs = tempfile::tempdir().unwrap();
    for (name, script) in stand_ins {
        let path = programs.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(root().join("hack/release"));
    let registry = "registry.example/Team/Kube-IPVS";
    let output = script.args(arguments).env("PATH", path).env("REGISTRY", registry).output();
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

const IMAGE: &str = "registry.example/team/kube-ipvs/kube-ipvs";

#[test]
fn a_released_chart_names_the_released_image() {
    let helm = "[ \"$1\" = package ] && cat \"$2\"/{values.yaml,files/alerts.yaml} && find \"$2\" -type l -printf 'a link: %p\\n'";
    let (succeeded, told) = step(&["chart"], &[("helm", helm)]);
    assert!(succeeded, "{told}");
    assert!(told.contains(&format!("\n  repository: {IMAGE}\n")), "{told}");
    assert!(told.contains("kind: PrometheusRule") && !told.contains("a link"), "{told}");
}

#[test]
fn an_image_is_named_in_lower_case() {
    let (succeeded, told) = step(&["image"], &[("docker", "echo \"$@\"")]);
    let tag = format!("--tag {IMAGE}:{}", env!("CARGO_PKG_VERSION"));
    assert!(succeeded && told.contains(&tag), "{told}");
}

#[test]
fn a_build_that_fails_makes_no_archive() {
    let stand_ins = [
        ("cargo", "[ \"$1\" != build ] && echo \"$* went on\""),
        ("rustup", "echo x86_64-unknown-linux-gnu"),
        ("x86_64-linux-gnu-gcc", ""),
    ];
    let (succeeded, told) = step(&["archives", "amd64"], &stand_ins);
    assert!(!succeeded && !told.contains("kube-ipvs-pages"), "{told}");
}

/// There is none, so a name would be made up, or another's.
#[test]
fn no_file_names_an_account_of_the_project() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Ok(listed) = listed else { return };
    for file in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        let text = fs::read(root().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for host in ["github.com", "ghcr.io", "docker.io", "quay.io"] {
            assert!(!text.contains(&format!("{host}/kube-ipvs")), "{file}: {host}");
        }
    }
}

/// A packager has an archive of the source, and says what it is of (`SOURCE_DATE_EPOCH`).
#[test]
fn the_environment_says_what_a_build_is_of() {
    let script = ". hack/build-facts && echo $KUBE_IPVS_COMMIT $KUBE_IPVS_DATE";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(root());
    let given = shell.env("SOURCE_DATE_EPOCH", "86400").env("KUBE_IPVS_COMMIT", "abc").output();
    let told = String::from_utf8(given.unwrap().stdout).unwrap();
    assert_eq!(told, "abc 1970-01-02T00:00:00Z\n");
}
