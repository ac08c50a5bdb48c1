//! The Kubernetes source against a server that fails in all the ways servers do.

mod connection;
mod costs;
mod extremes;
mod failures;
mod followed;
mod lists;
mod watches;
