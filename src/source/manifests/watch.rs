//! Edits apply as they are saved.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs_core::model::{Event, Interner, Name};
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{info, warn};

use super::{Catalog, DocumentError, ManifestError};

/// An edit is often several changes to the file system: those that follow one another so closely
/// are taken together,
const SETTLES_WITHIN: Duration = Duration::from_millis(1);
/// but an edit does not wait longer than this for those that follow it.
const LONGEST_BURST: Duration = Duration::from_millis(5);
/// What happens in a new directory before it is watched is not told: it is looked at again.
const WATCHED_WITHIN: Duration = Duration::from_millis(100);
/// Wait before a directory that is gone is looked for again.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);

/// A file system may tell nothing: of a network (NFS, 9p, FUSE), or of a link's target. There it is
/// looked at, as often as this,
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// again so soon if a file has changed, as it may still be being written,
const SETTLES_UNHEARD: Duration = Duration::from_secs(1);
/// and for one part of so many of the time at most: it may be large, or slow.
const LOOKS_FOR: u32 = 200;

type FileChange = notify::Result<notify::Event>;

/// Reads all files, then follows their changes on a thread of its own. `deliver` gets complete
/// lists first and single changes after; it returns whether anybody still listens.
///
/// # Errors
///
/// If the directory cannot be read or watched.
pub fn watch(
    directory: &Path,
    node_name: &Name,
    mut deliver: impl FnMut(Event) -> bool + Send + 'static,
) -> Result<JoinHandle<()>, ManifestError> {
    let (sender, changes) = mpsc::channel();
    let failed = |source| ManifestError::Watch { path: directory.to_owned(), source };
    let mut watcher = notify::recommended_watcher(move |change| {
        // Nobody listens any more once the agent ends.
        let _ = sender.send(change);
    })
    .map_err(failed)?;
    // Watched before it is read, so that no edit falls between.
    watcher.watch(directory, RecursiveMode::Recursive).map_err(failed)?;
    let mut edits = Edits {
        directory: directory.to_owned(),
        watcher,
        changes,
        catalog: Catalog::new(directory, node_name),
        names: Interner::default(),
        unfinished: BTreeSet::new(),
        again: None,
        looks_at: Instant::now() + LOOKS_EVERY,
        is_lost: false,
    };
    let (_, problems) =
        edits.catalog.refresh(DocumentError::Told, &mut edits.names, &edits.unfinished)?;
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
        .map_err(|source| ManifestError::Read { path: directory.to_owned(), source })
}

/// The edits of a directory.
struct Edits {
    directory: PathBuf,
    watcher: RecommendedWatcher,
    changes: Receiver<FileChange>,
    catalog: Catalog,
    names: Interner,
    /// Files that are being written: half of a file may well be a good file.
    unfinished: BTreeSet<PathBuf>,
    /// When to look at everything again, whether or not something is told.
    again: Option<Instant>,
    /// When to look whether something has changed that is not told.
    looks_at: Instant,
    /// Whether the directory itself is gone, and the watch with it.
    is_lost: bool,
}

impl Edits {
    /// Waits for the next edit and says what it changes. `None` if there can be none any more.
    fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let at = self.again.unwrap_or(self.looks_at).min(self.looks_at);
            let wait = at.saturating_duration_since(Instant::now());
            let first = match self.changes.recv_timeout(wait) {
                Ok(change) => Some(change),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let now = Instant::now();
            let is_due = self.again.take_if(|at| *at <= now).is_some();
            if is_due {
                self.find_lost();
            }
            let mut is_edit = first.is_some_and(|change| self.take(&change));
            let until = Instant::now() + LONGEST_BURST;
            while let Ok(change) = self
                .changes
                .recv_timeout(SETTLES_WITHIN.min(until.saturating_duration_since(Instant::now())))
            {
                is_edit |= self.take(&change);
            }
            if is_edit || is_due {
                return Some(self.refresh(DocumentError::Told));
            }
            if self.looks_at <= now {
                return Some(self.look());
            }
        }
    }

    /// Takes down what a change touches. Says whether something can be read anew because of it.
    fn take(&mut self, change: &FileChange) -> bool {
        // An error means that changes were lost: anything may have changed.
        let Ok(change) = change else { return true };
        let paths = change.paths.iter();
        match change.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                for path in paths {
                    self.unfinished.remove(path);
                    self.catalog.suspect(path);
                }
                true
            }
            // Our own reading is told, too.
            EventKind::Access(_) => false,
            // Whoever writes has the file open, and will close it.
            EventKind::Modify(ModifyKind::Data(_)) => {
                self.unfinished.extend(paths.cloned());
                false
            }
            EventKind::Create(CreateKind::File) => {
                let (written, whole): (Vec<_>, Vec<_>) = paths.partition(|path| is_written(path));
                self.unfinished.extend(written.into_iter().cloned());
                !whole.is_empty()
            }
            _ => {
                let is_own = change.paths.contains(&self.directory);
                let is_gone = !matches!(change.kind, EventKind::Modify(ModifyKind::Metadata(_)));
                self.is_lost |= is_own && is_gone;
                if self.is_lost || change.paths.iter().any(|path| path.is_dir()) {
                    self.again = Some(Instant::now() + WATCHED_WITHIN);
                }
                for path in paths {
                    self.unfinished.remove(path);
                    self.catalog.suspect(path);
                }
                true
            }
        }
    }

    /// Looks whether something has changed that is not told.
    fn look(&mut self) -> Vec<Event> {
        let start = Instant::now();
        let events = self.refresh(DocumentError::Look);
        let pace = if self.catalog.is_unsettled() { SETTLES_UNHEARD } else { LOOKS_EVERY };
        self.looks_at = Instant::now() + pace.max(start.elapsed() * LOOKS_FOR);
        events
    }

    fn refresh(&mut self, cause: DocumentError) -> Vec<Event> {
        match self.catalog.refresh(cause, &mut self.names, &self.unfinished) {
            Ok((events, problems)) => {
                report(problems);
                events
            }
            Err(error) => {
                if !self.is_lost {
                    warn!("{error}; the last good content stays until it is back");
                }
                self.is_lost = true;
                self.again = Some(Instant::now() + LOOKS_AGAIN);
                Vec::new()
            }
        }
    }

    /// Watches a directory that was gone, if it is back.
    fn find_lost(&mut self) {
        if self.is_lost && self.watcher.watch(&self.directory, RecursiveMode::Recursive).is_ok() {
            info!("{} is back", self.directory.display());
            self.is_lost = false;
            self.unfinished.clear();
        }
    }
}

/// Whether a new file is one that somebody writes and will close: neither a link nor gone again.
fn is_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}

fn report(problems: Vec<String>) {
    for problem in problems {
        warn!("{problem}");
    }
}
