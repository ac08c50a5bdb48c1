//! The `kube-ipvs` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    kube_ipvs::cli::main()
}
