//! The `kube-ipvs` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A change is mostly small objects that come and go, and the memory of a large plan is to go back
/// to the node when it is done.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    kube_ipvs::cli::main()
}
