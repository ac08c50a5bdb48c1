//! The configuration of the agent that runs here, for commands about it that are given none.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::{Cli, EarlyExit, output};
use crate::agent;
use crate::config::{Config, SharedFlags, resolve};

/// Resolves the configuration of a command about the agent, by [`flags`].
pub(super) fn config(given: &SharedFlags, says_so: bool) -> anyhow::Result<Config> {
    Ok(resolve(&flags(given, says_so)?)?)
}

/// Returns the flags of a command about the agent: those of the agent that runs in this network
/// namespace, unless the command has flags of its own. An agent in another container has other files
/// than those that its flags name here. `says_so` reports the source of the flags.
pub(super) fn flags(given: &SharedFlags, says_so: bool) -> anyhow::Result<SharedFlags> {
    let SharedFlags { config, manifests, node_name, master, proxy, .. } = given;
    let has_own = [config, manifests].iter().any(|it| it.is_some())
        || [node_name, master].iter().any(|it| it.is_some())
        || !proxy.is_empty();
    if has_own {
        return Ok(given.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Some(agent) = runtime.block_on(agent::running()) else { return Ok(given.clone()) };
    let flags = agent.pid.map_or_else(|| Err("it is hidden".to_owned()), read);
    if says_so {
        match &flags {
            Ok((_, line)) => output::report(format_args!("as the agent that runs here: {line}"))?,
            Err(why) => output::report(format_args!(
                "the configuration of the agent that runs here ({agent}) cannot be used: {why}; run \
                 this in its container, or give the same flags"
            ))?,
        }
    }
    Ok(flags.map_or_else(|_| given.clone(), |(flags, _)| flags))
}

/// The flags of a process, and its command line. Where they name files, they name them from here on.
fn read(pid: u32) -> Result<(SharedFlags, String), String> {
    let of = |what| format!("/proc/{pid}/{what}");
    let text = |error: io::Error| error.to_string();
    let mounts = |path: String| fs::read_link(path).map_err(text);
    if mounts(of("ns/mnt"))? != mounts("/proc/self/ns/mnt".to_owned())? {
        return Err("it has a file system of its own".to_owned());
    }
    let line = fs::read(of("cmdline")).map_err(text)?;
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    let words: Vec<_> =
        line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect();
    let line: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let line = line.join(" ");
    let Cli { shared, .. } = Cli::read(words).map_err(|notice| match notice {
        EarlyExit::Answer(text) | EarlyExit::Wrong(text) => text,
    })?;
    env::set_current_dir(of("cwd")).map_err(text)?;
    Ok((shared, line))
}
