//! Imports go one way, the core does no IO, and files stay small.

use std::fs;
use std::path::{Path, PathBuf};

/// What each module may import of the crate, beside itself. `agent` and `cli` may import what they
/// like, but for `cli`, which nobody may.
const IMPORTS: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("state", &["model"]),
    ("desired", &["model"]),
    ("plan", &["model"]),
    ("engine", &["model", "state", "desired", "plan"]),
    ("explain", &["model", "desired", "engine"]),
    ("config", &["model"]),
    ("kernel", &["model", "plan"]),
    ("source", &["model", "kernel"]),
    (
        "agent",
        &["model", "state", "desired", "plan", "engine", "explain", "config", "kernel", "source"],
    ),
];

/// Modules without IO, clock and async.
const CORE: [&str; 6] = ["model", "state", "desired", "plan", "engine", "explain"];

/// Paths that no core module may name: crates that do IO, and the parts of `std` that do.
const SHELL: [&str; 35] = [
    "anyhow",
    "clap",
    "futures_util",
    "hyper",
    "hyper_util",
    "http",
    "http_body_util",
    "k8s_openapi",
    "kube",
    "netlink_packet_core",
    "netlink_packet_generic",
    "netlink_packet_route",
    "netlink_sys",
    "notify",
    "prometheus",
    "rustix",
    "serde_json",
    "serde_saphyr",
    "tokio",
    "tracing",
    "tracing_subscriber",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "println!",
];

const LONGEST_FILE: usize = 500;

/// A source file, without comments and tests.
struct Source {
    path: PathBuf,
    /// The top-level module that it belongs to, and how deep below the crate it stands.
    module: String,
    depth: usize,
    code: String,
}

impl Source {
    fn read(path: PathBuf) -> Self {
        let relative = path.strip_prefix("src").unwrap().with_extension("");
        let mut parts: Vec<_> =
            relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        let code = without_comments_and_tests(&fs::read_to_string(&path).unwrap());
        Self { path, module: parts[0].clone(), depth: parts.len(), code }
    }

    fn place(&self, offset: usize) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("{}:{line}", self.path.display())
    }

    /// The modules of the crate that the file names, each with where.
    fn imports(&self) -> Vec<(String, usize)> {
        let root = "super::".repeat(self.depth);
        let mut imports = Vec::new();
        for prefix in ["crate::", &root] {
            for (offset, _) in self.code.match_indices(prefix) {
                let is_whole = !self.code[..offset].ends_with(is_path);
                if is_whole {
                    let rest = &self.code[offset + prefix.len()..];
                    imports.extend(heads(rest).into_iter().map(|head| (head, offset)));
                }
            }
        }
        imports
    }

    /// Where the file names a path.
    fn names(&self, path: &str) -> Vec<usize> {
        let is_named = |offset: &usize| {
            let after = &self.code[offset + path.len()..];
            let is_crate = !path.contains(['!', ':']);
            let is_part: fn(char) -> bool = if is_crate { is_path } else { is_name };
            !self.code[..*offset].ends_with(is_part)
                && !after.starts_with(is_name)
                && (!is_crate || after.starts_with("::"))
        };
        self.code.match_indices(path).map(|(offset, _)| offset).filter(is_named).collect()
    }

    /// Where it names what starts another program.
    fn programs(&self) -> Vec<usize> {
        const STARTS: [&str; 2] = ["process::Command", "runtime::execve"];
        let grouped = self.grouped_uses().into_iter();
        let grouped = grouped.filter(|(path, _)| STARTS.iter().any(|it| path.ends_with(it)));
        let named = STARTS.iter().flat_map(|path| self.names(path));
        named.chain(grouped.map(|(_, offset)| offset)).collect()
    }

    /// The paths of a `use` with braces, each written out.
    fn grouped_uses(&self) -> Vec<(String, usize)> {
        let mut paths = Vec::new();
        for (offset, _) in self.code.match_indices("use ") {
            let statement = &self.code[offset + "use ".len()..];
            let Some((statement, _)) = statement.split_once(';') else { continue };
            if let Some((stem, _)) = statement.split_once('{') {
                let heads = heads(&statement[stem.len()..]);
                paths.extend(heads.into_iter().map(|head| (format!("{stem}{head}"), offset)));
            }
        }
        paths
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_path(c: char) -> bool {
    is_name(c) || c == ':'
}

/// The first names of what follows `crate::`: one, or those of a group in braces.
fn heads(rest: &str) -> Vec<String> {
    let name =
        |text: &str| -> String { text.trim_start().chars().take_while(|c| is_name(*c)).collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut heads = vec![name(group)];
    let mut depth = 1;
    for (offset, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(name(&group[offset + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The text with comments blanked out, up to its tests. Lines keep their numbers.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let uncommented = |line: &str| match line.find("//") {
        Some(start) if !line[..start].contains('"') => line[..start].to_owned(),
        _ => line.to_owned(),
    };
    code.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every file of a module, none of `lib.rs` and `main.rs`.
fn sources() -> Vec<Source> {
    let is_module =
        |path: &PathBuf| !["src/lib.rs", "src/main.rs"].map(Path::new).contains(&&**path);
    rust_files(Path::new("src")).into_iter().filter(is_module).map(Source::read).collect()
}

#[track_caller]
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let mut complaints = Vec::new();
    for source in sources() {
        let allowed = IMPORTS.iter().find(|(module, _)| *module == source.module);
        let Some((module, allowed)) = allowed else {
            if source.module != "cli" {
                let (path, module) = (source.path.display(), &source.module);
                complaints.push(format!("{path}: say in this test what `{module}` may import"));
            }
            continue;
        };
        for (import, offset) in source.imports() {
            let is_module = import == "cli" || IMPORTS.iter().any(|(known, _)| *known == import);
            if is_module && import != *module && !allowed.contains(&&*import) {
                let place = source.place(offset);
                complaints.push(format!("{place}: `{module}` must not import `{import}`"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_core_has_no_io_no_clock_and_no_async() {
    let mut complaints = Vec::new();
    for source in sources().into_iter().filter(|source| CORE.contains(&&*source.module)) {
        let mut complain = |offset, what: &str| {
            let (place, module) = (source.place(offset), &source.module);
            complaints.push(format!("{place}: `{module}` is pure and must not name `{what}`"));
        };
        for path in SHELL {
            source.names(path).into_iter().for_each(|offset| complain(offset, path));
            for (used, offset) in source.grouped_uses() {
                if used == path {
                    complain(offset, path);
                }
            }
        }
        for (offset, _) in source.code.match_indices("async ") {
            complain(offset, "async");
        }
    }
    assert_none(&complaints);
}

#[test]
fn no_other_program_is_run() {
    let starts = |source: &Source| -> Vec<_> {
        source.programs().into_iter().map(|offset| source.place(offset)).collect()
    };
    let complaints: Vec<_> = sources().iter().flat_map(starts).collect();
    assert_none(&complaints);
}

#[test]
fn files_stay_small() {
    let mut complaints = Vec::new();
    for path in
        ["src", "tests", "benches", "fuzz/src"].into_iter().flat_map(|it| rust_files(Path::new(it)))
    {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LONGEST_FILE {
            let path = path.display();
            complaints.push(format!("{path}: {lines} lines; split it below {LONGEST_FILE}"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn a_wrong_import_is_found() {
    let source = |code: &str| Source {
        path: "src/plan/wrong.rs".into(),
        module: "plan".to_owned(),
        depth: 2,
        code: without_comments_and_tests(code),
    };
    let heads = |code: &str| source(code).imports().into_iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(heads("use crate::kernel::Kernel;"), ["kernel"]);
    assert_eq!(heads("use crate::{\n  model::{A, B},\n  agent,\n};"), ["model", "agent"]);
    assert_eq!(heads("use super::super::state::State;"), ["state"]);
    assert_eq!(heads("use super::stage::Stage; // crate::kernel"), Vec::<String>::new());
    assert_eq!(heads("fn f() { crate::cli::main() }"), ["cli"]);
    assert_eq!(source("\n\nlet now = std::time::Instant::now();").names("Instant::now"), [23]);
    assert_eq!(source("use tokio::net;").names("tokio").len(), 1);
    assert_eq!(source("let kube = 1;").names("kube").len(), 0);
    assert_eq!(
        source("use std::net::{IpAddr, TcpStream};").grouped_uses()[1].0,
        "std::net::TcpStream"
    );
    for code in ["use std::process::{ExitCode, Command};", "tokio::process::Command::new(it)"] {
        assert_eq!(source(code).programs().len(), 1, "{code}");
    }
    assert_eq!(source("use std::process::ExitCode;").programs().len(), 0);
    assert_eq!(source("\n\nlet x;").place(2), "src/plan/wrong.rs:3");
}
