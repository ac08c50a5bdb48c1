//! Applies edits of manifests as they are saved.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kube_ipvs_core::model::{Event, Interner, Name};
use notify::RecursiveMode;
use tracing::warn;

use super::{Catalog, ManifestError};
use crate::source::directory::{Cause, WatchedDirectory};

/// Reads all files, then follows their changes on a separate thread. `deliver` first gets complete
/// lists, then single changes; it returns false once the receiver is gone.
///
/// # Errors
///
/// If the directory cannot be read or watched.
pub fn watch(
    directory: &Path,
    node_name: &Name,
    mut deliver: impl FnMut(Event) -> bool + Send + 'static,
) -> Result<JoinHandle<()>, ManifestError> {
    let path = PathBuf::from(directory);
    // Watched before it is read, so that no edit falls between.
    let files = WatchedDirectory::watch(directory, RecursiveMode::Recursive, |_| true)
        .map_err(|source| ManifestError::Watch { path: path.clone(), source })?;
    let catalog = Catalog::new(directory, node_name);
    let mut edits = Edits { files, catalog, names: Interner::default() };
    let (_, problems) =
        edits.catalog.refresh(Cause::Reported, &mut edits.names, edits.files.unfinished())?;
    report(problems);
    let everything = edits.catalog.everything();
    let follow = move || {
        if everything.into_iter().all(&mut deliver) {
            while edits.next().is_some_and(|events| events.into_iter().all(&mut deliver)) {}
        }
    };
    thread::Builder::new()
        .name("manifests".to_owned())
        .spawn(follow)
        .map_err(|source| ManifestError::Read { path, source })
}

struct Edits {
    files: WatchedDirectory,
    catalog: Catalog,
    names: Interner,
}

impl Edits {
    /// Waits for the next edit and returns its events; `None` if the watcher is gone.
    fn next(&mut self) -> Option<Vec<Event>> {
        let cause = self.files.changed()?;
        let start = Instant::now();
        self.files.touched().iter().for_each(|path| self.catalog.invalidate(path));
        let refreshed = self.catalog.refresh(cause, &mut self.names, self.files.unfinished());
        if cause == Cause::Look {
            self.files.looked(start.elapsed(), self.catalog.is_unsettled());
        }
        Some(match refreshed {
            Ok((events, problems)) => {
                report(problems);
                events
            }
            Err(error) => {
                if self.files.lose() {
                    warn!("{error}; the last good content stays until it is back");
                }
                Vec::new()
            }
        })
    }
}

fn report(problems: Vec<String>) {
    for problem in problems {
        warn!("{problem}");
    }
}
