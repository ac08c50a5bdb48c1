//! The agent replaces itself, so that another configuration applies as a whole.

use std::env;
use std::io;
use std::os::unix::process::CommandExt;

/// This program, whatever has become of its file meanwhile.
const SELF: &str = "/proc/self/exe";

/// Starts this program again as this very process, with the same arguments and environment. Returns
/// only if that fails.
#[allow(clippy::disallowed_types, reason = "it becomes this program itself, and runs no other")]
pub(super) fn replace() -> io::Error {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    std::process::Command::new(SELF).arg0(name).args(arguments).exec()
}
