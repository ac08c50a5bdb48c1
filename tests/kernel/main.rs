//! Tests on a real kernel: the agent runs on a node in network namespaces, and real packets say
//! whether it did its work. `make kernel-test` runs them; `CASE=name` picks some.
//!
//! Cases (`cases/`) drive the whole program; component tests (`components/`) a part of it. Each of
//! these two modules says how one reads and how to add one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test program that reports by text")]
#![allow(clippy::disallowed_types, reason = "it runs the agent, `ip`, `nft` and others")]

#[path = "../api/mod.rs"]
mod api;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod components;
mod context;
mod demo;
mod expectation;
mod explained;
mod lab;
mod runner;
mod soak;
mod stock;

use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sockets and other files that may be open at a time: clients that are told nothing all wait
/// together.
const SOCKETS: u64 = 16_384;

/// What the environment asks of this program.
#[derive(PartialEq)]
enum Mode {
    /// Run where the kernel allows it, else say so and be content. What plain `cargo test` does.
    IfPossible,
    /// Not being able to run is a failure.
    Required,
    /// Do not run: they run separately.
    Skip,
}

/// Runs the demonstration.
const DEMO: &str = "--demo";
/// Runs the soak for `SECONDS:SEED`.
const SOAK: &str = "--soak=";
/// Runs only the tests for stock kernels.
const STOCK: &str = "--stock";

fn main() -> ExitCode {
    let mode = match std::env::var("KERNEL_TESTS").as_deref() {
        Ok("required") => Mode::Required,
        Ok("skip") => Mode::Skip,
        _ => Mode::IfPossible,
    };
    let (ours, others): (Vec<_>, Vec<_>) = std::env::args().partition(|it| is_ours(it));
    let has = |wanted: &str| ours.iter().any(|argument| argument == wanted);
    let arguments = Arguments::from_iter(others);
    if arguments.list {
        return runner::run(arguments, has(STOCK), false);
    }
    if mode == Mode::Skip {
        println!("kernel tests: skipped, they run by themselves");
        return ExitCode::SUCCESS;
    }
    if let Err(why) = kernel_is_fit() {
        println!("kernel tests: skipped: {why}; `make test` finds a kernel for them");
        return if mode == Mode::Required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if let Err(error) = allow_many_sockets() {
        println!("kernel tests: {SOCKETS} open files are not allowed: {error}");
        return ExitCode::FAILURE;
    }
    if has(DEMO) {
        return match demo::run(&|line| println!("{line}")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                println!("\nnot as it should be:\n{failure}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(plan) = ours.iter().find_map(|argument| argument.strip_prefix(SOAK)) {
        return match soak::run(plan) {
            Ok(tally) => {
                println!("{tally}");
                if tally.lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(failure) => {
                println!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    runner::run(arguments, has(STOCK), mode == Mode::Required)
}

/// Whether an argument is specific to this program; test programs share the others.
fn is_ours(argument: &str) -> bool {
    [DEMO, STOCK].contains(&argument) || argument.starts_with(SOAK)
}

/// Whether this machine can run the tests: root, IPVS, and namespaces of its own.
fn kernel_is_fit() -> Result<(), &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("not root");
    }
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    if !std::path::Path::new("/proc/net/ip_vs").exists() && !succeeds("modprobe", &["ip_vs"]) {
        return Err("no IPVS here");
    }
    if !succeeds("unshare", &["--net", "true"]) {
        return Err("no network namespaces here");
    }
    Ok(())
}

/// Raises the limit of open files, which is 1,024 by default.
fn allow_many_sockets() -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.map(|limit| limit.max(SOCKETS));
    let limit = Rlimit { current: enough(limit.current), maximum: enough(limit.maximum) };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
