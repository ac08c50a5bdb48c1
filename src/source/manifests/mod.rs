//! Objects from the `.yaml`, `.yml` and `.json` files under a directory.

mod catalog;
mod file;
mod follow;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube_ipvs_core::model::{Event, Interner, Name};

use crate::source::directory::Cause;
use crate::source::wire::Rejection;
use catalog::Catalog;

pub use follow::follow;

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: document {document}: {reason}", path = path.display())]
    Syntax {
        path: PathBuf,
        /// From 1.
        document: usize,
        reason: String,
    },
    #[error("{path}: document {document} ({object}): {field}: {reason}", path = path.display())]
    Field {
        path: PathBuf,
        /// From 1.
        document: usize,
        /// The kind and name of the object, if known.
        object: String,
        field: String,
        reason: String,
    },
    #[error("cannot watch {path}: {source}", path = path.display())]
    Watch { path: PathBuf, source: notify::Error },
}

/// Parses a text as a file with this name. Returns the number of objects, and the rejections.
/// Public for the fuzz targets.
///
/// # Errors
///
/// If the file is invalid.
#[doc(hidden)]
pub fn decode(path: &Path, text: &str) -> Result<(usize, Vec<Rejection>), ManifestError> {
    let (objects, rejections) = file::parse(path, text, &mut Interner::default())?;
    Ok((objects.len(), rejections))
}

/// Reads all files once. Returns complete lists of every kind, and the problems.
///
/// # Errors
///
/// If the directory itself cannot be read. An invalid file is a problem, not an error.
pub fn load(
    directory: &Path,
    node_name: &Name,
) -> Result<(Vec<Event>, Vec<String>), ManifestError> {
    let mut catalog = Catalog::new(directory, node_name);
    let (_, problems) = catalog.refresh(Cause::Reported, &BTreeSet::new())?;
    Ok((catalog.everything(), problems))
}
