//! The fuzz targets, with the checked-in corpora and mutations of them: what the fuzzers have found
//! stays found, without a fuzzer.

mod mutation;
mod samples;
#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutation::Mutator;

/// Mutations of each corpus.
const MUTATIONS: usize = 1_000;
/// What a small input may take, even on a slow machine.
const LONGEST: Duration = Duration::from_secs(5);
/// Together they stay small, in bytes.
const LARGEST_CORPORA: u64 = 300_000;

fn folder(target: &str) -> PathBuf {
    Path::new("fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run(name: &str, data: &[u8], of: &Path) {
    let start = Instant::now();
    if catch_unwind(|| targets::run(name, data)).is_err() {
        let input = Path::new("target").join(format!("{name}.crash"));
        fs::write(&input, data).unwrap();
        panic!("{name}: {} does not hold; see {}", of.display(), input.display());
    }
    assert!(start.elapsed() < LONGEST, "{name}: {} takes too long", of.display());
}

#[test]
fn corpora_hold() {
    for (name, _) in targets::TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        corpus.iter().for_each(|(path, data)| run(name, data, path));
    }
}

#[test]
fn mutations_hold() {
    for (name, _) in targets::TARGETS {
        let corpus = corpus(name);
        let mut mutator = Mutator::new(&corpus);
        for _ in 0..MUTATIONS {
            let (path, data) = mutator.next();
            run(name, &data, path);
        }
    }
}

#[test]
fn every_target_is_built_and_has_a_corpus() {
    let manifest = fs::read_to_string("fuzz/Cargo.toml").unwrap();
    let mut size = 0;
    for (name, _) in targets::TARGETS {
        let program = fs::read_to_string(format!("fuzz/fuzz_targets/{name}.rs")).unwrap();
        assert!(program.contains(&format!("run(\"{name}\"")), "{name}: {program}");
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        size += corpus(name).iter().map(|(_, data)| data.len() as u64).sum::<u64>();
    }
    assert_eq!(fs::read_dir("fuzz/fuzz_targets").unwrap().count(), targets::TARGETS.len());
    assert_eq!(fs::read_dir("fuzz/corpus").unwrap().count(), targets::TARGETS.len());
    assert!(size < LARGEST_CORPORA, "{size} bytes");
}

#[test]
fn every_sample_is_in_a_corpus() {
    for (target, name, _) in samples::all() {
        let path = folder(target).join(name);
        assert!(path.exists(), "{}: run `samples_are_written`", path.display());
    }
}

/// Run it where an encoder or a sample has changed: `cargo test --test it -- --ignored samples`.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn samples_are_written() {
    for (target, name, data) in samples::all() {
        let folder = folder(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), data).unwrap();
    }
}
