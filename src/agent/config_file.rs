//! Follows the configuration file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use notify::RecursiveMode;

use crate::source::directory::{Cause, WatchedDirectory};

/// The link that puts a volume's new content in place.
const DATA: &str = "..data";

/// Follows a file on a separate thread. `changed` gets the text at first, as it may have changed
/// since the agent read it, and then each different text.
///
/// # Errors
///
/// If its directory cannot be watched.
pub(super) fn follow(
    path: &Path,
    mut changed: impl FnMut(io::Result<&str>) + Send + 'static,
) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let path = directory.join(path.file_name().unwrap_or_default());
    let own = path.clone();
    let concerns = move |path: &Path| path == own || path.ends_with(DATA);
    let mut files = WatchedDirectory::watch(directory, RecursiveMode::NonRecursive, concerns)?;
    let mut file = ConfigFile { path, text: None, seen: None };
    let follow = move || {
        let mut cause = Some(Cause::Reported);
        while let Some(now) = cause {
            if !files.unfinished().contains(&file.path) {
                file.read(now).map(&mut changed);
            }
            if now == Cause::Look {
                files.looked(Duration::ZERO, file.seen.is_some());
            }
            cause = files.changed();
        }
    };
    thread::Builder::new().name("configuration".to_owned()).spawn(follow)?;
    Ok(())
}

struct ConfigFile {
    path: PathBuf,
    /// The text of the last read.
    text: Option<String>,
    /// Another text without a reported change.
    seen: Option<String>,
}

impl ConfigFile {
    /// Reads the text, if it differs from the last. A file that is gone for a moment is being
    /// replaced. A change that was not reported may be half of a write: two reads must agree.
    fn read(&mut self, cause: Cause) -> Option<io::Result<&str>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            // What cannot be read was reported once.
            Err(_) if cause == Cause::Look => return None,
            Err(error) => return Some(Err(error)),
        };
        let seen = self.seen.take();
        if text == self.text {
            return None;
        }
        if cause == Cause::Look && seen != text {
            self.seen = text;
            return None;
        }
        self.text = text;
        self.text.as_deref().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{self, Receiver};

    use super::*;

    /// A machine that is busy with other things may be slow.
    const PATIENT: Duration = Duration::from_secs(20);

    fn followed(path: &Path) -> Receiver<String> {
        let (sender, texts) = mpsc::channel();
        follow(path, move |text| drop(sender.send(text.unwrap().to_owned()))).unwrap();
        assert_eq!(texts.recv_timeout(PATIENT).unwrap(), "one");
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
    fn a_change_without_a_notification_is_found() {
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
