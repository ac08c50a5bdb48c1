//! kube-ipvs: a kube-proxy replacement that programs Linux IPVS.
//!
//! ```text
//!  source/            state/            desired/           plan/               kernel/
//!  Kubernetes API ─┐  objects by key;   one Service +      old × new DesiredService   ipvs, nft,
//!  manifests dir  ─┼► what changed  ──► its endpoints  ──► → ordered        ──► route, sysctl
//!  node addresses ─┘  → dirty keys      → DesiredService          operations              │
//!                                                              ▲── one outcome each ┘
//! ```
//!
//! The crate `kube-ipvs-core` has what stands between sources and kernel: state, desired, plan. It is
//! pure: no IO, no clock, no async.

// Of all that comes from outside nothing may end the agent. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
    )
)]

pub mod agent;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
pub mod kernel;
pub mod migrate;
pub mod source;
