//! kube-ipvs: a kube-proxy replacement that programs Linux IPVS.
//!
//! The crate `kube-ipvs-core` decides what a node's kernel should hold. This crate surrounds it:
//! [`source`] delivers objects, [`kernel`] carries operations out, [`agent`] runs both, [`trace`]
//! follows packets, [`cli`] has the commands. `docs/ARCHITECTURE.md` follows one endpoint through all
//! of them.

// Input from outside must never cause a panic. Tests may panic.
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
mod answer;
pub mod build;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod doctor;
pub mod duration;
pub mod kernel;
pub mod migrate;
pub mod source;
pub mod trace;
mod yaml;
