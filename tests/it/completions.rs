//! Completions of command lines, as bash and kubectl ask for them.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_kube-ipvs");

/// Calls what the script has registered, as bash does when a key is pressed.
const PRESS: &str = r#"
source <(kube-ipvs completions bash)
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_TYPE=9
_clap_complete_kube_ipvs kube-ipvs "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

fn lines(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Returns what bash offers for the last word.
fn offered(words: &[&str]) -> Vec<String> {
    let directory = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    lines(Command::new("bash").args(["-c", PRESS, "bash"]).args(words).env("PATH", path))
}

#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(offered(&["kube-ipvs", "stat"]), ["status"]);
    assert_eq!(offered(&["kube-ipvs", "render", "--manif"]), ["--manifests"]);
    assert_eq!(offered(&["kube-ipvs", "status", "-o", ""]), ["text", "wide", "yaml", "json"]);
    assert_eq!(offered(&["kube-ipvs", "run", "--ipvs-scheduler", "w"]), ["wrr", "wlc"]);
    assert_eq!(offered(&["kube-ipvs", "run", "--detect-local-mode", "N"]), ["NodeCIDR"]);
    let levels = offered(&["kube-ipvs", "status", "--log-level", ""]);
    assert_eq!(levels, ["error", "warn", "info", "debug", "trace"]);
    let sorts = offered(&["kube-ipvs", "top", "--once", "--sort", ""]);
    assert_eq!(sorts, ["connections", "packets", "bytes", "active"]);
}

/// zsh runs the file as the body of `_kube-ipvs` where it loads it, when a key is pressed for the first time.
#[test]
fn the_first_key_in_zsh_completes() {
    let text = lines(Command::new(PROGRAM).args(["completions", "zsh"])).join("\n");
    let called = "[[ $funcstack[1] != _kube-ipvs ]] || _clap_dynamic_completer_kube_ipvs \"$@\"";
    assert_eq!(text.lines().last(), Some(called));
    assert!(text.contains("\nfunction _clap_dynamic_completer_kube_ipvs() {\n"), "{text}");
    // Where there is a zsh, it is asked.
    let loaded = "function compdef() { }; function _describe() { print -r -- ${(P)3[1]%%:*} }
        fpath=($1); autoload -Uz _kube-ipvs; words=(kube-ipvs stat); CURRENT=2; _kube-ipvs";
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("_kube-ipvs"), text).unwrap();
    let program = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut zsh = Command::new("zsh");
    zsh.args(["-f", "-c", loaded, "zsh"]).arg(directory.path()).env("PATH", path);
    if zsh.output().is_ok() {
        assert_eq!(lines(&mut zsh), ["status"]);
    }
}

#[test]
fn kubectl_completes_the_plugin() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("kubectl_complete-ipvs");
    symlink(PROGRAM, &program).unwrap();
    let offered = |words: &[&str]| lines(Command::new(&program).args(words));
    assert_eq!(offered(&["dif"])[0].split('\t').next(), Some("diff"));
    let forms = offered(&["doctor", "-o", ""]);
    assert_eq!(forms, ["text\tLines for people", "json\tOne JSON object", ":4"]);
}

#[test]
fn no_manual_page_is_of_help() {
    for command in kube_ipvs::cli::commands() {
        let paged = command.get_subcommands().filter(|it| !it.is_hide_set());
        assert_eq!(paged.filter(|it| it.get_name() == "help").count(), 0);
    }
}

#[test]
fn every_value_that_is_offered_is_valid() {
    for flag in ["--ipvs-scheduler", "--detect-local-mode", "--log-level", "--proxy-mode"] {
        let values = offered(&["kube-ipvs", "run", flag, ""]);
        assert!(!values.is_empty(), "{flag}");
        for value in values {
            let mut command = Command::new(PROGRAM);
            command.args(["run", flag, &value, "--write-config-to", "-"]);
            command.args(["--cluster-cidr", "192.0.2.0/24", "--pod-bridge-interface", "a"]);
            command.args(["--pod-interface-name-prefix", "a"]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{flag} {value}: {output:?}");
        }
    }
}
