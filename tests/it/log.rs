//! With `--log-format json`, no line is outside JSON, whatever ends the agent.

use std::fs;
use std::process::Command;

use serde_json::Value;

/// The lines that a start leaves on standard error. Each is an object.
fn lines(words: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kube-ipvs")).args(words).output().unwrap();
    assert!(!output.status.success(), "{words:?}");
    assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
    text.lines().map(line).collect()
}

#[test]
fn an_early_error_is_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.conf");
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&file, format!("{head}logging: {{format: json}}\noomScoreAdj: 5000\n")).unwrap();
    let file = file.to_str().unwrap();
    for (words, part) in [
        (&["run", "--log-format", "json", "--no-such-flag"][..], "--no-such-flag"),
        (&["run", "--logging-format=json", "--manifests"], "--manifests"),
        (&["run", "--log-format=json", "--log-level", "loud"], "--log-level"),
        (&["run", "--log-format=json", "--config", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["run", "--config", file], "oomScoreAdj"),
    ] {
        let lines = lines(words);
        let [line] = &*lines else { panic!("{words:?}: {lines:?}") };
        assert!(line["msg"].as_str().unwrap().contains(part), "{words:?}: {line}");
        assert!(line["ts"].is_number() && line["level"] == "error", "{line}");
    }
}
