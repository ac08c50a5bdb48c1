//! Objects from the `.yaml`, `.yml` and `.json` files under a directory.

mod catalog;
mod file;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kube_ipvs_core::model::{Event, Interner, Name};

use crate::source::directory::Cause;
use crate::source::wire::Rejection;

pub use catalog::Catalog;
pub use watch::watch;

/// Why a directory or a file of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The directory or a file cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML or JSON.
    #[error("{path}: document {document}: {reason}", path = path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Which document of it, from 1.
        document: usize,
        /// Where and why.
        reason: String,
    },
    /// A field has a value of the wrong type.
    #[error("{path}: document {document} ({object}): {field}: {reason}", path = path.display())]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which document of it, from 1.
        document: usize,
        /// The object's kind and name, as far as it says so.
        object: String,
        /// The field's path.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// The directory cannot be watched.
    #[error("cannot watch {path}: {source}", path = path.display())]
    Watch {
        /// Which.
        path: PathBuf,
        /// Why.
        source: notify::Error,
    },
}

/// Reads a text as a file of this name. Returns how many objects it has, and what of them could not
/// be used. Public for the fuzz targets.
///
/// # Errors
///
/// As for a file that is not good.
#[doc(hidden)]
pub fn decode(path: &Path, text: &str) -> Result<(usize, Vec<Rejection>), ManifestError> {
    let (objects, rejections) = file::parse(path, text, &mut Interner::default())?;
    Ok((objects.len(), rejections))
}

/// Reads all files once: complete lists of every kind, and what could not be used.
///
/// # Errors
///
/// If the directory itself cannot be read. A file that cannot be used is among the problems.
pub fn load(
    directory: &Path,
    node_name: &Name,
) -> Result<(Vec<Event>, Vec<String>), ManifestError> {
    let mut catalog = Catalog::new(directory, node_name);
    let (_, problems) =
        catalog.refresh(Cause::Reported, &mut Interner::default(), &BTreeSet::new())?;
    Ok((catalog.everything(), problems))
}
