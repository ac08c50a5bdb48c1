//! What the commands print of texts that others wrote.

use std::fs;
use std::process::Command;

use serde_json::json;

/// Clears the screen, forges a line, turns what follows, and begins a sequence of eight bits.
const HOSTILE: &str = "web\u{1b}[2J\r\nforged\u{202e}\u{9b}1m";

fn is_obeyed(letter: char) -> bool {
    (letter.is_control() && !matches!(letter, '\n' | '\t')) || letter == '\u{202e}'
}

#[test]
fn foreign_text_cannot_forge_lines_or_control_a_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let annotations = json!({"kube-ipvs.io/scheduler": HOSTILE});
    let metadata = json!({"name": HOSTILE, "namespace": HOSTILE, "annotations": annotations});
    let labels = json!({"kubernetes.io/service-name": HOSTILE});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"clusterIP": "10.96.0.10", "externalIPs": [HOSTILE],
            "ports": [{"name": HOSTILE, "port": 80, "protocol": "TCP"}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": HOSTILE, "namespace": HOSTILE, "labels": labels},
        "addressType": HOSTILE,
    });
    let endpoint = json!({
        "addresses": ["10.244.1.5"], "nodeName": HOSTILE,
        "targetRef": {"kind": "Pod", "name": HOSTILE},
    });
    let named = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "named", "namespace": HOSTILE, "labels": slice["metadata"]["labels"]},
        "addressType": "IPv4", "ports": [{"name": HOSTILE, "port": 80}], "endpoints": [endpoint],
    });
    // Its path is told where it is broken.
    fs::write(directory.path().join(format!("{HOSTILE}.json")), HOSTILE).unwrap();
    fs::write(directory.path().join("a.json"), format!("{service}{slice}{named}")).unwrap();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kube-ipvs"))
            .args(words)
            .args(["--node-name", "n1", "--manifests"])
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        let (out, err) = (output.stdout, output.stderr);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    };
    for words in [
        &["explain", "10.96.0.10:80", "--from", "node"][..],
        &["explain", "10.96.0.10:80", "--from", "node", "-o", "json"],
        &["render"],
        &["render", "-o", "nft"],
        &["render", "-o", "json"],
    ] {
        let (out, err) = run(words);
        for text in [&out, &err] {
            assert!(!text.lines().any(|line| line.starts_with("forged")), "{words:?}: {text}");
        }
        assert!(!err.contains(is_obeyed), "{words:?}: {err:?}");
        assert_eq!(err.matches("addressType: ").count(), 1, "{err}");
        assert_eq!(err.matches("an option is ignored: ").count(), 1, "{err}");
        assert!(!out.contains(is_obeyed), "{words:?}: {out:?}");
    }
    let (out, _) = run(&["explain", "10.96.0.10:80", "--from", "node", "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    let service = format!("{HOSTILE}/{HOSTILE}:{HOSTILE}");
    assert_eq!(answer["service"], service, "JSON has what was written");
    assert_eq!(answer["backends"][0]["pod"], HOSTILE);
    let (out, _) = run(&["explain", "10.96.0.10:80", "--from", "node"]);
    let pod = r"web\u{1b}[2J\r\nforged\u{202e}\u{9b}1m";
    assert!(out.contains(&format!("({pod} on {pod})")), "{out}");
}
