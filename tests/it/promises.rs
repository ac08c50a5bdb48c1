//! `docs/reliability.md` names tests that are there.

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

#[test]
fn each_promise_is_held_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    for directory in ["src", "tests", "benches"] {
        text_below(&root.join(directory), &mut code);
    }
    let promises = fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.contains("held by"));
    let mut count = 0;
    for row in rows {
        let holders = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        let names: Vec<_> = holders.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing holds it: {row}");
        for name in names {
            let is_there = root.join(name).exists()
                || code.contains(&format!("fn {name}("))
                || code.contains(&format!("\"{name}\""));
            assert!(is_there, "no such test: {name}");
            count += 1;
        }
    }
    assert!(count > 30, "{count} tests are named");
}
