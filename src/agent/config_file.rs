//! Follows the configuration file.
//!
//! It may be written in place, replaced by another one that is renamed over it, or be a link into
//! a ConfigMap's volume, where the link `..data` is replaced. All of that happens in its directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{info, warn};

/// An edit is often several changes to the file system: those that follow one another so closely
/// are taken together.
const SETTLES_WITHIN: Duration = Duration::from_millis(50);
/// A file system may tell nothing, of a network or of a link's target: it is looked at, too.
const LOOKS_EVERY: Duration = Duration::from_secs(5);
/// Wait before a directory that is gone is looked for again.
const LOOKS_AGAIN: Duration = Duration::from_secs(1);
/// The link that a volume's new content is put in place by.
const DATA: &str = "..data";

type Change = notify::Result<notify::Event>;

/// Follows a file on a thread of its own. `changed` gets its text whenever that is another one.
///
/// # Errors
///
/// If its directory cannot be watched.
pub(super) fn follow(
    path: &Path,
    mut changed: impl FnMut(&str) + Send + 'static,
) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    let (sender, changes) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |change| {
        // Nobody listens any more once the agent ends.
        let _ = sender.send(change);
    })?;
    watcher.watch(&directory, RecursiveMode::NonRecursive)?;
    let mut file = File {
        path: directory.join(path.file_name().unwrap_or_default()),
        text: fs::read_to_string(path).unwrap_or_default(),
        directory,
        watcher,
        changes,
        seen: None,
        is_unfinished: false,
        is_lost: false,
    };
    let follow = move || {
        while let Some(cause) = file.wait() {
            match file.read(cause) {
                Ok(Some(text)) => changed(text),
                Ok(None) => {}
                Err(error) => {
                    let path = file.path.display();
                    warn!("{path}: {error}; the configuration stays as it is");
                }
            }
        }
    };
    thread::Builder::new().name("configuration".to_owned()).spawn(follow)?;
    Ok(())
}

/// The file.
struct File {
    path: PathBuf,
    directory: PathBuf,
    watcher: RecommendedWatcher,
    changes: Receiver<Change>,
    /// What was read last.
    text: String,
    /// Another one that nothing was told of.
    seen: Option<String>,
    /// Whether somebody is writing it: half of a file may well be a good file.
    is_unfinished: bool,
    /// Whether the directory is gone, and the watch with it.
    is_lost: bool,
}

/// Why the file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Something was told.
    Told,
    /// It is looked at from time to time.
    Look,
}

impl File {
    /// Waits until the file may be another one. `None` if that can never be.
    fn wait(&mut self) -> Option<Cause> {
        let mut settles = None;
        loop {
            let wait = match settles {
                Some(at) => Instant::saturating_duration_since(&at, Instant::now()),
                None if self.is_lost => LOOKS_AGAIN,
                None => LOOKS_EVERY,
            };
            let is_told = settles.is_some() || self.is_lost;
            let change = match self.changes.recv_timeout(wait) {
                Ok(change) => change,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.is_lost && !self.find() => {
                    settles = None;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) if self.is_unfinished => {
                    settles = None;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) if is_told => return Some(Cause::Told),
                Err(RecvTimeoutError::Timeout) => return Some(Cause::Look),
            };
            if self.take(&change) {
                settles = Some(Instant::now() + SETTLES_WITHIN);
            }
        }
    }

    /// Says whether the file may be another one after a change.
    fn take(&mut self, change: &Change) -> bool {
        // An error means that changes were lost: anything may have changed.
        let Ok(change) = change else { return true };
        let is_gone = !matches!(
            change.kind,
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_))
        );
        if change.paths.contains(&self.directory) && is_gone {
            self.is_lost = true;
            return false;
        }
        let is_own = change.paths.contains(&self.path);
        let data = self.directory.join(DATA);
        if !is_own && !change.paths.contains(&data) {
            return false;
        }
        match change.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                self.is_unfinished = false;
                true
            }
            // Our own reading is told, too.
            EventKind::Access(_) => false,
            // Whoever writes has the file open, and will close it.
            EventKind::Modify(ModifyKind::Data(_)) => {
                self.is_unfinished |= is_own;
                false
            }
            EventKind::Create(CreateKind::File) if is_own => {
                self.is_unfinished = true;
                false
            }
            _ => {
                self.is_unfinished &= !is_own;
                true
            }
        }
    }

    /// Watches a directory that was gone, if it is back.
    fn find(&mut self) -> bool {
        let is_back = self.watcher.watch(&self.directory, RecursiveMode::NonRecursive).is_ok();
        if is_back {
            info!("{} is back", self.directory.display());
            self.is_lost = false;
        }
        is_back
    }

    /// The text, if it is another one than before. A file that is gone for a moment is being
    /// replaced. One that has changed unheard may be half of one: it has to be the same twice.
    fn read(&mut self, cause: Cause) -> io::Result<Option<&str>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // What cannot be read was told once.
            Err(_) if cause == Cause::Look => return Ok(None),
            text => text?,
        };
        let seen = self.seen.take();
        if text == self.text {
            return Ok(None);
        }
        if cause == Cause::Look && seen.as_ref() != Some(&text) {
            self.seen = Some(text);
            return Ok(None);
        }
        self.text = text;
        Ok(Some(&self.text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine that is busy with other things may be slow.
    const PATIENT: Duration = Duration::from_secs(20);

    fn followed(path: &Path) -> Receiver<String> {
        let (sender, texts) = mpsc::channel();
        follow(path, move |text| drop(sender.send(text.to_owned()))).unwrap();
        texts
    }

    #[test]
    fn a_file_is_followed_however_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.conf");
        fs::write(&path, "one").unwrap();
        let texts = followed(&path);

        fs::write(&path, "two").unwrap();
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "two");
        let draft = folder.path().join("draft");
        fs::write(&draft, "three").unwrap();
        fs::rename(&draft, &path).unwrap();
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "three");
        // The same again is no change; nor is another file.
        fs::write(&path, "three").unwrap();
        fs::write(folder.path().join("other"), "other").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "four").unwrap();
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "four");
    }

    #[test]
    fn what_nobody_tells_is_found_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (seen, elsewhere) = (folder.path().join("seen"), folder.path().join("elsewhere"));
        fs::create_dir(&seen).unwrap();
        fs::write(&elsewhere, "one").unwrap();
        let path = seen.join("config.conf");
        fs::hard_link(&elsewhere, &path).unwrap();
        let texts = followed(&path);
        // By another name, as on another machine that has the same file system.
        fs::write(&elsewhere, "two").unwrap();
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "two");
    }

    #[test]
    fn a_volumes_content_is_swapped_by_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let put = |version: &str, text: &str| {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("config.conf"), text).unwrap();
            symlink(version, root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join(DATA)).unwrap();
        };
        put("..1", "one");
        let path = root.join("config.conf");
        symlink("..data/config.conf", &path).unwrap();
        let texts = followed(&path);
        put("..2", "two");
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "two");
        fs::remove_dir_all(root.join("..1")).unwrap();
        put("..3", "three");
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "three");
    }
}
