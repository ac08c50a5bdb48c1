//! Writes the manual pages and completions of kube-ipvs below a directory, where `make install` and
//! releases take them from.

use std::path::Path;
use std::{env, fs, io};

use clap_mangen::generate_to;
use kube_ipvs::cli;

/// Where shells look for completions, below a prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/kube-ipvs"),
    ("zsh", "share/zsh/site-functions/_kube-ipvs"),
    ("fish", "share/fish/vendor_completions.d/kube-ipvs.fish"),
];

fn main() -> io::Result<()> {
    let usage = || io::Error::other("give the directory to write to");
    let root = env::args_os().nth(1).ok_or_else(usage)?;
    let root = Path::new(&root);
    let pages = root.join("share/man/man1");
    fs::create_dir_all(&pages)?;
    for command in cli::commands() {
        generate_to(command, &pages)?;
    }
    for (shell, path) in COMPLETIONS {
        let path = root.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, cli::completions(shell)?)?;
    }
    Ok(())
}
