//! Follows the files of a directory.
//!
//! A file may be written in place, replaced by another file that is renamed over it, or be a link
//! into a volume, whose content a link swaps. All of that happens in a directory.

use std::collections::BTreeSet;
use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::info;

/// An edit is often several changes to the file system: changes that follow one another so closely
/// are taken together,
const SETTLES_WITHIN: Duration = Duration::from_millis(1);
/// but an edit does not wait longer than this for the next one.
const LONGEST_BURST: Duration = Duration::from_millis(5);
/// The kernel does not report what happens in a new directory before it is watched: it is read again.
const WATCHED_WITHIN: Duration = Duration::from_millis(100);
/// Wait before a directory that is gone is looked for again.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);

/// A file system may report nothing: a network's (NFS, 9p, FUSE), or that of a link's target. The
/// directory is therefore read from time to time, as often as this,
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// again so soon if a file has changed, as it may still be being written,
const SETTLES_UNHEARD: Duration = Duration::from_secs(1);
/// and for at most this part of the time: it may be large, or slow.
const LOOKS_FOR: u32 = 200;

/// Why files are read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The kernel has reported a change.
    Reported,
    /// They are read from time to time. A file may still be being written: a changed file is left
    /// until it looks the same twice.
    Look,
}

/// The files of a directory, while they change.
pub struct WatchedDirectory {
    path: PathBuf,
    mode: RecursiveMode,
    watcher: RecommendedWatcher,
    changes: Receiver<notify::Result<notify::Event>>,
    /// Files that are being written: half of a file may well be a valid file.
    unfinished: BTreeSet<PathBuf>,
    /// Files that have changed since the last wait.
    touched: Vec<PathBuf>,
    /// When to read everything again, whether or not a change is reported.
    again: Option<Instant>,
    /// When to look for changes that were not reported.
    looks_at: Instant,
    /// Whether the directory itself is gone, and the watch with it.
    is_lost: bool,
}

impl WatchedDirectory {
    /// Watches a directory from now on. Changes of files that `concerns` rejects do not count.
    ///
    /// # Errors
    ///
    /// If it cannot be watched.
    pub fn watch(
        path: &Path,
        mode: RecursiveMode,
        concerns: impl Fn(&Path) -> bool + Send + 'static,
    ) -> notify::Result<Self> {
        let (sender, changes) = mpsc::channel();
        let directory = path.to_owned();
        let concerns = move |path: &PathBuf| *path == directory || concerns(path);
        let mut watcher =
            notify::recommended_watcher(move |change: notify::Result<notify::Event>| {
                if change.as_ref().map_or(true, |change| change.paths.iter().any(&concerns)) {
                    // Nothing receives it once the agent ends.
                    let _ = sender.send(change);
                }
            })?;
        watcher.watch(path, mode)?;
        Ok(Self {
            path: path.to_owned(),
            mode,
            watcher,
            changes,
            unfinished: BTreeSet::new(),
            touched: Vec::new(),
            again: None,
            looks_at: Instant::now() + LOOKS_EVERY,
            is_lost: false,
        })
    }

    /// Waits until files have to be read again. `None` if that can never be.
    pub fn changed(&mut self) -> Option<Cause> {
        self.touched.clear();
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
                return Some(Cause::Reported);
            }
            if self.looks_at <= now {
                self.looks_at = Instant::now() + LOOKS_EVERY;
                return Some(Cause::Look);
            }
        }
    }

    /// The files that are being written, and are left until they are complete.
    pub fn unfinished(&self) -> &BTreeSet<PathBuf> {
        &self.unfinished
    }

    /// The files that have changed during the last wait, though they may look the same.
    pub fn touched(&self) -> &[PathBuf] {
        &self.touched
    }

    /// Notes that files were read unasked, which took so long, and whether one may still be being
    /// written.
    pub fn looked(&mut self, took: Duration, is_unsettled: bool) {
        let pace = if is_unsettled { SETTLES_UNHEARD } else { LOOKS_EVERY };
        self.looks_at = Instant::now() + pace.max(took * LOOKS_FOR);
    }

    /// Notes that the directory cannot be read. Returns whether that is new.
    pub fn lose(&mut self) -> bool {
        self.again = Some(Instant::now() + LOOKS_AGAIN);
        !mem::replace(&mut self.is_lost, true)
    }

    /// Notes what a change touches. Returns whether that is worth reading.
    fn take(&mut self, change: &notify::Result<notify::Event>) -> bool {
        // An error means that changes were lost: anything may have changed.
        let Ok(change) = change else { return true };
        let paths = change.paths.iter();
        match change.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                paths.for_each(|path| self.touch(path));
                true
            }
            // The kernel reports the agent's own reading, too.
            EventKind::Access(_) => false,
            // The writer has the file open, and will close it.
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
                let is_own = change.paths.contains(&self.path);
                let is_gone = !matches!(change.kind, EventKind::Modify(ModifyKind::Metadata(_)));
                self.is_lost |= is_own && is_gone;
                if self.is_lost || change.paths.iter().any(|path| path.is_dir()) {
                    self.again = Some(Instant::now() + WATCHED_WITHIN);
                }
                paths.for_each(|path| self.touch(path));
                true
            }
        }
    }

    fn touch(&mut self, path: &Path) {
        self.unfinished.remove(path);
        self.touched.push(path.to_owned());
    }

    /// Watches a directory that was gone, if it is back.
    fn find_lost(&mut self) {
        if self.is_lost {
            match self.watcher.watch(&self.path, self.mode) {
                Ok(()) => {
                    info!("{} is back", self.path.display());
                    self.is_lost = false;
                    self.unfinished.clear();
                }
                Err(_) => self.again = Some(Instant::now() + LOOKS_AGAIN),
            }
        }
    }
}

/// Whether a new file is one that a program writes and will close: neither a link nor gone again.
fn is_written(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}
