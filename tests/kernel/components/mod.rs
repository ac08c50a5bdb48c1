//! Parts of the program alone on a real kernel, each in a network namespace of its own.
//!
//! A component test is a plain function with assertions. To add one, add it to the list of the
//! module that it belongs to.

mod agent;
mod faults;
mod ipvs;
mod listener;
mod nft;
mod node;
mod operator;
mod process;
mod route;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::demo::check_recording;

/// One test of a part of the program.
pub(crate) struct Component {
    /// Its name, by which it can be run alone.
    pub(crate) name: &'static str,
    /// What it does, on a thread and in a namespace of its own.
    pub(crate) run: fn(),
    /// Whether it changes the whole machine, and so runs alone and before all others.
    pub(crate) alone: bool,
}

/// A component test of a name.
fn component(name: &'static str, run: fn()) -> Component {
    Component { name, run, alone: false }
}

/// As [`component`], for a test that changes the whole machine.
fn alone(name: &'static str, run: fn()) -> Component {
    Component { alone: true, ..component(name, run) }
}

/// All component tests.
pub(crate) fn all() -> Vec<Component> {
    [
        agent::components(),
        ipvs::components(),
        listener::components(),
        nft::components(),
        route::components(),
        node::components(),
        operator::components(),
        faults::components(),
        vec![component("the_recording_tells_the_demo_as_it_is", check_recording)],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs a command line, which must succeed.
fn run(line: &str) {
    output(line);
}

/// Runs a command line, which must succeed, and returns what it prints.
fn output(line: &str) -> String {
    let mut words = line.split_whitespace();
    let done = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Unloads a module and those that depend on it, unless it is built into the kernel.
fn unload(module: &str) {
    let directory = Path::new("/sys/module").join(module);
    if let Ok(holders) = fs::read_dir(directory.join("holders")) {
        holders.for_each(|holder| unload(holder.unwrap().file_name().to_str().unwrap()));
    }
    if directory.join("initstate").exists() {
        run(&format!("rmmod {module}"));
    }
}
