//! Objects from a directory of manifests: what is read, and how edits apply.

mod directory;
mod edits;
mod files;
