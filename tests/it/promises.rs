//! The documents name tests that are there.

use std::fs;
use std::path::Path;

/// The text of all Rust files below a directory.
fn text_below(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text_below(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// All code in which a test may be.
fn code() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for directory in ["src", "tests", "benches"] {
        text_below(&root.join(directory), &mut code);
    }
    code
}

/// Whether a test, a case or a benchmark has the name.
fn is_test(code: &str, name: &str) -> bool {
    code.contains(&format!("fn {name}(")) || code.contains(&format!("\"{name}\""))
}

#[test]
fn no_document_names_a_test_that_is_not_there() {
    /// What else is written like the name of a test: metrics, settings and modules, benchmarks.
    const OTHERS: [&str; 3] = ["kube_ipvs_", "nf_", "data_path_"];
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let code = code();
    let mut count = 0;
    for entry in fs::read_dir(docs).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let is_name = |word: &&str| {
            word.matches('_').count() > 2
                && word
                    .chars()
                    .all(|it| it == '_' || it.is_ascii_lowercase() || it.is_ascii_digit())
                && !OTHERS.iter().any(|other| word.starts_with(other))
        };
        for name in text.split('`').filter(is_name) {
            assert!(is_test(&code, name), "{}: no such test: {name}", path.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count} tests are named");
}

#[test]
fn each_promise_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = code();
    let promises = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.contains("held by"));
    let mut count = 0;
    for row in rows {
        let holders = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        let names: Vec<_> = holders.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing holds it: {row}");
        for name in names {
            let is_there = root.join(name).exists() || is_test(&code, name);
            assert!(is_there, "no such test: {name}");
            count += 1;
        }
    }
    assert!(count > 30, "{count} tests are named");
}
