//! Objects from the `.yaml`, `.yml` and `.json` files under a directory.

mod catalog;
mod file;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kube_ipvs_core::model::{Event, Interner, Name};
use notify::RecursiveMode;
use tracing::warn;

use crate::source::directory::{Cause, WatchedDirectory};
use crate::source::wire::Rejection;
use catalog::Catalog;

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

/// Reads all files, then follows their changes on a separate thread. `deliver` first gets complete
/// lists, then single changes; it breaks once the receiver is gone.
///
/// # Errors
///
/// If the directory cannot be read or watched.
pub fn follow(
    directory: &Path,
    node_name: &Name,
    mut deliver: impl FnMut(Event) -> ControlFlow<()> + Send + 'static,
) -> Result<JoinHandle<()>, ManifestError> {
    let path = PathBuf::from(directory);
    // Watched before it is read, so that no edit falls between.
    let mut files = WatchedDirectory::watch(directory, RecursiveMode::Recursive, |_| true)
        .map_err(|source| ManifestError::Watch { path: path.clone(), source })?;
    let mut catalog = Catalog::new(directory, node_name);
    let (_, problems) = catalog.refresh(Cause::Reported, files.unfinished())?;
    report(problems);
    let follow = move || {
        let mut flow = catalog.everything().into_iter().try_for_each(&mut deliver);
        while flow.is_continue()
            && let Some(cause) = files.changed()
        {
            flow = edits(cause, &mut files, &mut catalog).into_iter().try_for_each(&mut deliver);
        }
    };
    thread::Builder::new()
        .name("manifests".to_owned())
        .spawn(follow)
        .map_err(|source| ManifestError::Read { path, source })
}

/// Reads the files that have changed and returns the events.
fn edits(cause: Cause, files: &mut WatchedDirectory, catalog: &mut Catalog) -> Vec<Event> {
    let start = Instant::now();
    files.touched().iter().for_each(|path| catalog.invalidate(path));
    let refreshed = catalog.refresh(cause, files.unfinished());
    if cause == Cause::Look {
        files.looked(start.elapsed(), catalog.is_unsettled());
    }
    match refreshed {
        Ok((events, problems)) => {
            report(problems);
            events
        }
        Err(error) => {
            if files.lose() {
                warn!("{error}; the last good content stays until it is back");
            }
            Vec::new()
        }
    }
}

fn report(problems: Vec<String>) {
    for problem in problems {
        warn!("{problem}");
    }
}
