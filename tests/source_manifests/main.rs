//! Objects from a directory of manifests: what is read, and how edits apply.
#![allow(clippy::unwrap_used)]

mod directory;
mod edits;
mod files;
