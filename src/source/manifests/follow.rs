//! Applies edits of manifests as they are saved.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kube_ipvs_core::model::{Event, Name};
use notify::RecursiveMode;
use tracing::warn;

use super::{Catalog, ManifestError};
use crate::source::directory::{Cause, WatchedDirectory};

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
