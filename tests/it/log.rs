//! With `--log-format json`, no line is outside JSON, whatever ends the agent.

use std::process::{Command, Output};
use std::{env, fs};

use kube_ipvs::agent::log;
use kube_ipvs::config::LogFormat;
use serde_json::Value;

/// Set in the process that panics.
const PANICS: &str = "KUBE_IPVS_TEST_PANICS";

/// The lines that a start leaves on standard error. Each is an object.
fn lines(words: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_kube-ipvs")).args(words).output().unwrap();
    assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
    of(output)
}

fn of(output: Output) -> Vec<Value> {
    assert!(!output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
    text.lines().map(line).collect()
}

#[test]
fn a_panic_is_json() {
    if env::var_os(PANICS).is_some() {
        log::select(LogFormat::Json);
        panic!("a broken\n\"promise\"");
    }
    let itself = Command::new(env::current_exe().unwrap())
        .args(["--exact", "log::a_panic_is_json", "--nocapture"])
        .env(PANICS, "1")
        .output();
    let lines = of(itself.unwrap());
    let [line] = &*lines else { panic!("{lines:?}") };
    assert_eq!((&line["level"], &line["err"]), (&"error".into(), &"a broken\n\"promise\"".into()));
    assert!(line["caller"].as_str().unwrap().starts_with("it/log.rs:"), "{line}");
}

/// The operating system's words say it, the numbers of its errors and the words of libraries do not.
#[test]
fn errors_of_files_are_in_words() {
    let pod = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
    for (words, part) in [
        (&["run", "--config=/nowhere/a"][..], "cannot read /nowhere/a, which --config names: No"),
        (&["plan", "--kubeconfig=/nowhere/a"], "cannot read the kubeconfig /nowhere/a: No such"),
        (&["render", "--manifests=/nowhere/a"], "cannot read /nowhere/a: No such file"),
        (&["status", "--metrics-bind-address=127.0.0.1:1"], "127.0.0.1:1: Connection refused; is"),
        (&["plan"], "this is not a pod with a service account, which has"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"));
        for variable in pod {
            program.env_remove(variable);
        }
        let output = program.args(words).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(part), "{words:?}: {text}");
        assert!(!text.contains("os error"), "{words:?}: {text}");
    }
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
