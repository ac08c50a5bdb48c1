//! Applies edits of manifests as they are saved.

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

use super::{Catalog, ManifestError, RefreshCause};

/// An edit is often several changes of the file system; changes this close together form one edit.
const SETTLES_WITHIN: Duration = Duration::from_millis(1);
/// The longest wait for further changes of an edit.
const LONGEST_BURST: Duration = Duration::from_millis(5);
/// The wait before another check of a new directory: changes before the watch are not notified.
const WATCHED_WITHIN: Duration = Duration::from_millis(100);
/// The interval at which a missing directory is looked for.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The interval of periodic checks: some file systems send no notifications (NFS, 9p, FUSE), nor do
/// the targets of links.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The interval of checks while a file has changed, because it may still be written.
const UNSETTLED_INTERVAL: Duration = Duration::from_secs(1);
/// Checks take at most one part in this many of the time, because the directory may be large or
/// slow.
const CHECK_SHARE: u32 = 200;

type FileChange = notify::Result<notify::Event>;

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
    let (sender, changes) = mpsc::channel();
    let failed = |source| ManifestError::Watch { path: directory.to_owned(), source };
    let mut watcher = notify::recommended_watcher(move |change| {
        // Fails once the agent ends.
        let _ = sender.send(change);
    })
    .map_err(failed)?;
    // Watched before it is read, so that no edit is missed.
    watcher.watch(directory, RecursiveMode::Recursive).map_err(failed)?;
    let mut edits = Edits {
        directory: directory.to_owned(),
        watcher,
        changes,
        catalog: Catalog::new(directory, node_name),
        names: Interner::default(),
        unfinished: BTreeSet::new(),
        again: None,
        next_check: Instant::now() + CHECK_INTERVAL,
        is_lost: false,
    };
    let (_, problems) =
        edits.catalog.refresh(RefreshCause::Notified, &mut edits.names, &edits.unfinished)?;
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

struct Edits {
    directory: PathBuf,
    watcher: RecommendedWatcher,
    changes: Receiver<FileChange>,
    catalog: Catalog,
    names: Interner,
    /// Files that are being written: half of a file may be a valid file.
    unfinished: BTreeSet<PathBuf>,
    /// When to check everything again, even without a notification.
    again: Option<Instant>,
    /// When to check for changes without a notification.
    next_check: Instant,
    /// Whether the directory itself is gone, and the watch with it.
    is_lost: bool,
}

impl Edits {
    /// Waits for the next edit and returns its events; `None` if the watcher is gone.
    fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let at = self.again.unwrap_or(self.next_check).min(self.next_check);
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
                return Some(self.refresh(RefreshCause::Notified));
            }
            if self.next_check <= now {
                return Some(self.check());
            }
        }
    }

    /// Records a change. Returns whether a file may be read because of it.
    fn take(&mut self, change: &FileChange) -> bool {
        // An error means that notifications were lost: anything may have changed.
        let Ok(change) = change else { return true };
        let paths = change.paths.iter();
        match change.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                for path in paths {
                    self.unfinished.remove(path);
                    self.catalog.invalidate(path);
                }
                true
            }
            // The agent's own reads are notified, too.
            EventKind::Access(_) => false,
            // The writing program has the file open and will close it.
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
                    self.catalog.invalidate(path);
                }
                true
            }
        }
    }

    /// Checks for changes without a notification.
    fn check(&mut self) -> Vec<Event> {
        let start = Instant::now();
        let events = self.refresh(RefreshCause::Check);
        let pace = if self.catalog.is_unsettled() { UNSETTLED_INTERVAL } else { CHECK_INTERVAL };
        self.next_check = Instant::now() + pace.max(start.elapsed() * CHECK_SHARE);
        events
    }

    fn refresh(&mut self, cause: RefreshCause) -> Vec<Event> {
        match self.catalog.refresh(cause, &mut self.names, &self.unfinished) {
            Ok((events, problems)) => {
                report(problems);
                events
            }
            Err(error) => {
                if !self.is_lost {
                    warn!("{error}; the last valid content stays in use until it is back");
                }
                self.is_lost = true;
                self.again = Some(Instant::now() + RETRY_INTERVAL);
                Vec::new()
            }
        }
    }

    /// Watches the directory again if it is back.
    fn find_lost(&mut self) {
        if self.is_lost && self.watcher.watch(&self.directory, RecursiveMode::Recursive).is_ok() {
            info!("{} is back", self.directory.display());
            self.is_lost = false;
            self.unfinished.clear();
        }
    }
}

/// Returns whether a new file is still being written: it is neither a link nor removed.
fn is_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}

fn report(problems: Vec<String>) {
    for problem in problems {
        warn!("{problem}");
    }
}
