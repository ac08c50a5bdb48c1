//! The workflows of a release, as far as they can be checked without the service that runs them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

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

/// A repository that has what `hack/release` reads, a commit and a tag of the program's version.
fn tagged() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let steps = "cp -r hack manifests charts Cargo.toml CHANGELOG.md \"$1\" && cd \"$1\" && git init -q && \
                 git -c user.name=a -c user.email=a@example commit -q --allow-empty -m a && git tag \"$2\"";
    let tag = format!("v{}", env!("CARGO_PKG_VERSION"));
    let mut shell = Command::new("sh");
    shell.args(["-ec", steps, "sh"]).arg(copy.path()).arg(tag).current_dir(root());
    assert!(shell.status().unwrap().success());
    copy
}

#[test]
fn a_version_that_has_a_tag_has_a_date() {
    let copy = tagged();
    let version = env!("CARGO_PKG_VERSION");
    let cases = [
        (format!("{version} - 2026-01-31"), true),
        (format!("[{version}] - 2024-02-29"), true),
        (format!("{version} - unreleased"), false),
        (version.to_owned(), false),
        (format!("{version} - 31.01.2026"), false),
        (format!("{version} - 2026-02-30"), false),
    ];
    for (heading, is_released) in cases {
        let text =
            format!("# Changelog\n\n## {heading}\n\n- More.\n\n## 0.0.1 - 2025-01-01\n\n- All.\n");
        fs::write(copy.path().join("CHANGELOG.md"), text).unwrap();
        let said = step_in(copy.path(), &["check", version], &[], "");
        let advice = format!("begin the section with '## {version} - ");
        assert!(
            said.0 == is_released && said.1.contains(&advice) != is_released,
            "{heading}: {said:?}"
        );
        // What is published is released, whatever the repository's tags are.
        let gh = [("gh", "echo published")];
        fs::create_dir_all(copy.path().join("target/dist")).unwrap();
        let said = step_in(copy.path(), &["publish", version], &gh, "");
        assert_eq!(said.1.contains("published"), is_released, "{heading}: {said:?}");
    }
}

/// Runs a step with programs that say how they were called, and returns what they said.
fn step(arguments: &[&str], stand_ins: &[(&str, &str)]) -> (bool, String) {
    step_in(root(), arguments, stand_ins, "")
}

/// The same in a copy of the repository, and with `PUSH`.
fn step_in(
    root: &Path,
    arguments: &[&str],
    stand_ins: &[(&str, &str)],
    push: &str,
) -> (bool, String) {
    let programs = tempfile::tempdir().unwrap();
    for (name, script) in stand_ins {
        let path = programs.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let mut script = Command::new(root.join("hack/release"));
    let registry = "registry.example/Team/Kube-IPVS";
    let output = script
        .args(arguments)
        .env("PATH", path)
        .env("REGISTRY", registry)
        .env("PUSH", push)
        .output();
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
fn what_a_release_pushes_is_signed_by_digest() {
    let copy = tagged();
    let (of_image, of_chart) = ("1".repeat(64), "2".repeat(64));
    // As buildx tells the digest, and as Helm does: on its standard error.
    let docker = format!(
        "while [ $# -gt 0 ]; do [ \"$1\" != --metadata-file ] || \
         echo '  \"containerimage.digest\": \"sha256:{of_image}\"' >\"$2\"; shift; done"
    );
    let helm =
        format!("[ \"$1\" != push ] || printf 'Pushed: a\\nDigest: sha256:{of_chart}\\n' >&2");
    let stand_ins = [("docker", &*docker), ("helm", &*helm), ("cosign", "echo \"$@\"")];
    let signed = || step_in(copy.path(), &["sign"], &stand_ins, "true");
    for name in ["image", "chart"] {
        assert!(!signed().0, "before the {name} is pushed");
        let (succeeded, told) = step_in(copy.path(), &[name], &stand_ins, "true");
        assert!(succeeded, "{told}");
    }
    let (succeeded, told) = signed();
    assert!(succeeded, "{told}");
    let chart = IMAGE.replace("/kube-ipvs/kube-ipvs", "/kube-ipvs/charts/kube-ipvs");
    for object in [format!("{IMAGE}@sha256:{of_image}"), format!("{chart}@sha256:{of_chart}")] {
        assert!(told.contains(&format!("sign --yes {object}\n")), "{told}");
    }
    assert!(
        told.contains("sign-blob --yes --bundle target/dist/SHA256SUMS.sigstore.json"),
        "{told}"
    );

    let refused = [("helm", "[ \"$1\" != push ] || { echo denied; exit 1; }")];
    let (succeeded, told) = step_in(copy.path(), &["chart"], &refused, "true");
    assert!(!succeeded && told.contains("denied\n"), "{told}");

    // Without a digest there is no signature of another image.
    let silent = [("helm", ""), ("cosign", "echo \"$@\"")];
    assert!(step_in(copy.path(), &["chart"], &silent, "true").0);
    let (succeeded, told) = signed();
    assert!(!succeeded && told.contains("the chart that was pushed has no digest"), "{told}");
}

/// The signature of the checksums is that of all files of a release.
#[test]
fn the_checksums_have_every_file_of_a_release() {
    let copy = tagged();
    let dist = copy.path().join("target/dist");
    fs::create_dir_all(&dist).unwrap();
    assert!(!step_in(copy.path(), &["sums"], &[], "").0, "there is nothing to sum");
    let files =
        ["kube-ipvs-linux-amd64.tar.gz", "kube-ipvs-linux-arm64.tar.gz", "kube-ipvs.cdx.json"];
    let mut told = Vec::new();
    for file in files {
        fs::write(dist.join(file), file).unwrap();
        assert!(step_in(copy.path(), &["sums"], &[], "").0);
        let sums = fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
        told = sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect();
    }
    assert_eq!(told, files);
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
