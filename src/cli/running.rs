//! The configuration of the agent that runs here, for commands about it that are given none.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Cli, FlagWarning};
use crate::agent;
use crate::config::SharedFlags;

/// Which flags a command about the agent goes by.
pub(super) enum Flags {
    /// Its own: it was given some, or no agent runs here.
    Own,
    /// Those that the agent was started with, whose command line this is.
    OfAgent(Box<SharedFlags>, String),
    /// Its own, though an agent runs here: why those of the agent cannot be had.
    Hidden(String),
}

/// Finds the flags of the agent that runs in this network namespace, unless some were given. An agent
/// in another container has other files than those that its flags name here.
pub(super) fn flags(given: &SharedFlags) -> io::Result<Flags> {
    let SharedFlags { config, manifests, node_name, master, proxy, .. } = given;
    let names = [node_name, master];
    if config.is_some()
        || manifests.is_some()
        || names.iter().any(|it| it.is_some())
        || !proxy.is_empty()
    {
        return Ok(Flags::Own);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Some(agent) = runtime.block_on(agent::running()) else { return Ok(Flags::Own) };
    Ok(match agent.pid.map_or_else(|| Err("it is hidden".to_owned()), read) {
        Ok((flags, line)) => Flags::OfAgent(Box::new(flags), line),
        Err(why) => Flags::Hidden(format!(
            "the configuration of the agent that runs here ({agent}) cannot be used: {why}; run this \
             in its container, or give the same flags"
        )),
    })
}

/// The flags of a process, and its command line. Where they name files, they name them from here on.
fn read(pid: u32) -> Result<(SharedFlags, String), String> {
    let of = |what| format!("/proc/{pid}/{what}");
    let told = |error: io::Error| error.to_string();
    let mounts = |path: String| fs::read_link(path).map_err(told);
    if mounts(of("ns/mnt"))? != mounts("/proc/self/ns/mnt".to_owned())? {
        return Err("it has a file system of its own".to_owned());
    }
    let line = fs::read(of("cmdline")).map_err(told)?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words: Vec<_> =
        line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let text: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let text = text.join(" ");
    let Cli { shared, .. } = Cli::read(words).map_err(|notice| match notice {
        FlagWarning::Answer(text) | FlagWarning::Wrong(text) => text,
    })?;
    env::set_current_dir(of("cwd")).map_err(told)?;
    Ok((shared, text))
}
