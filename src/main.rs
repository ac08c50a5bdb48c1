//! The `kube-ipvs` command.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A change is mostly small objects that come and go, and the memory of a large plan is to go back
/// to the node when it is done.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // They would keep a tenth more resident. A kernel that was built without has none anyway.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // After it has replaced itself, the kernel calls it `exe`.
    let _ = rustix::thread::set_name(c"kube-ipvs");
    kube_ipvs::cli::main()
}
