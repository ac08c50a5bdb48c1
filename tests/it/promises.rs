//! What the documents name is there: tests, files, headings, commands and flags.

use std::fs;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use kube_ipvs::cli::Cli;

use crate::documents::{Document, ROOT, documents};

/// Where a test may be.
const WITH_TESTS: [&str; 4] = ["src", "crates", "tests", "benches"];

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

/// The text of all code below directories of the root.
pub fn code(directories: &[&str]) -> String {
    let root = Path::new(ROOT);
    let mut code = String::new();
    for directory in directories {
        text_below(&root.join(directory), &mut code);
    }
    code
}

/// Whether a test, a case or a benchmark has the name.
fn is_test(code: &str, name: &str) -> bool {
    code.contains(&format!("fn {name}(")) || code.contains(&format!("\"{name}\""))
}

#[test]
fn documents_name_existing_tests() {
    /// What else is written like the name of a test: metrics, settings and modules, benchmarks.
    const OTHERS: [&str; 5] = ["kube_ipvs_", "kubeproxy_", "rest_client_", "nf_", "data_path_"];
    let code = code(&WITH_TESTS);
    let mut count = 0;
    for document in documents() {
        let is_name = |word: &&str| {
            word.matches('_').count() > 2
                && word
                    .chars()
                    .all(|it| it == '_' || it.is_ascii_lowercase() || it.is_ascii_digit())
                && !OTHERS.iter().any(|other| word.starts_with(other))
        };
        for name in document.words().filter(is_name) {
            assert!(is_test(&code, name), "{}: no such test: {name}", document.path.display());
            count += 1;
        }
    }
    assert!(count > 80, "{count} tests are named");
}

#[test]
fn documents_name_existing_files_and_headings() {
    const FOLDERS: [&str; 9] = [
        "src/",
        "crates/",
        "tests/",
        "docs/",
        "fuzz/",
        "hack/",
        "manifests/",
        "benches/",
        "charts/",
    ];
    let (mut files, mut links) = (0, 0);
    for document in documents() {
        let path = document.path.display();
        let is_file = |word: &&str| FOLDERS.iter().any(|folder| word.starts_with(folder));
        for word in document.words().filter(is_file) {
            let file = word.split_whitespace().next().unwrap();
            assert!(Path::new(ROOT).join(file).exists(), "{path}: no such file: {file}");
            files += 1;
        }
        let targets = document.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => document.path.clone(),
                file => document.path.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{path}: no such file: {target}");
            let is_there = anchor.is_empty()
                || Document::read(file).anchors().iter().any(|heading| heading == anchor);
            assert!(is_there, "{path}: no such heading: {target}");
            links += 1;
        }
    }
    assert!(files > 30 && links > 30, "{files} files and {links} links are named");
}

#[test]
fn every_command_that_a_document_names_is_understood() {
    let mut count = 0;
    for document in documents() {
        for line in document.lines_of_code().chain(document.words()) {
            // What comes after `kubectl exec POD --` or `ssh NODE sudo`, or in a unit, is a command, too.
            let before = [" -- /", " sudo ./", "=/usr/local/bin/", "=+/usr/local/bin/"];
            let command = before.iter().find_map(|it| line.rsplit_once(it));
            let command = command.map_or(line, |(_, command)| command);
            let command = command.trim_start_matches("$ ").split('#').next().unwrap();
            let words: Vec<_> = command.split_whitespace().collect();
            let is_ours = words.first() == Some(&"kube-ipvs") && words.len() > 1;
            // A placeholder such as ADDR:PORT is no value, and a sentence may name the command alone.
            let complaint = is_ours.then(|| Cli::try_parse_from(&words).err()).flatten();
            let complaint = complaint.filter(|it| {
                use ErrorKind::{MissingRequiredArgument, ValueValidation};
                ![MissingRequiredArgument, ValueValidation].contains(&it.kind())
            });
            let path = document.path.display();
            assert!(complaint.is_none(), "{path}: {command}: {}", complaint.unwrap());
            count += usize::from(is_ours);
        }
    }
    assert!(count > 15, "{count} commands are named");
}

#[test]
fn every_flag_that_the_documentation_names_exists() {
    let command = Cli::command();
    let flags = |command: &clap::Command| -> Vec<String> {
        let of = |flag: &clap::Arg| {
            let aliases = flag.get_all_aliases().unwrap_or_default();
            flag.get_long().into_iter().chain(aliases).map(str::to_owned).collect::<Vec<_>>()
        };
        command.get_arguments().flat_map(of).collect()
    };
    let mut known = flags(&command);
    known.extend(command.get_subcommands().flat_map(flags));
    let page = Document::read(Path::new(ROOT).join("docs/configuration.md"));
    for word in page.words().filter_map(|word| word.strip_prefix("--")) {
        let flag = word.split([' ', '=']).next().unwrap();
        assert!(known.iter().any(|name| name == flag), "--{flag}");
    }
}

#[test]
fn each_promise_is_held_by_tests_that_exist() {
    let root = Path::new(ROOT);
    let code = code(&WITH_TESTS);
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
