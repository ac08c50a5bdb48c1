//! The Kubernetes source against a server that fails in all the ways servers do.
#![allow(clippy::unwrap_used)]

#[path = "../api/mod.rs"]
mod api;

mod connection;
mod costs;
mod extremes;
mod failures;
mod followed;
mod lists;
use api::objects;
mod watches;
