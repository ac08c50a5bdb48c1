//! Files stay small. What the core may not do, `crates/core/clippy.toml` says.

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 500;

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_stay_small() {
    let mut files = Vec::new();
    for directory in ["src", "crates", "tests", "benches", "fuzz/src"] {
        rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    }
    let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().count();
    files.retain(|path| lines(path) > LONGEST_FILE);
    assert!(files.is_empty(), "longer than {LONGEST_FILE} lines, split them: {files:#?}");
}
