//! Kernel settings under `/proc/sys` that services need.
//!
//! All of them belong to the network namespace that this process stands in. The ones of IPVS
//! exist once its module is loaded, so the agent opens IPVS first.

mod setting;
mod wish;

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kube_ipvs_core::model::Family;
use rustix::fs::{Access, access};

pub use setting::{Necessity, SETTINGS, Setting};
pub use wish::{Granted, Wish};

/// How a setting was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SysctlState {
    /// It has the wanted value.
    Right,
    /// It has another one.
    Wrong {
        /// The value found.
        found: String,
        /// Whether this process may write it.
        writable: bool,
    },
    /// The kernel does not have it (yet): its module is not loaded.
    Missing,
    /// It could not be read.
    Unreadable(String),
}

/// A setting that [`Sysctls::ensure`] changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SysctlChange {
    /// Which one.
    pub setting: Setting,
    /// The value that it had before.
    pub before: String,
}

impl fmt::Display for SysctlChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.setting.name(), self.before, self.setting.wanted)
    }
}

/// A setting that could not be made right.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// It has another value and may not be written.
    #[error(
        "{} is {found} and must be {}, or {}; it cannot be written here ({cause}): run `{}` on the node",
        setting.name(), setting.wanted, setting.why, setting.command()
    )]
    NotWritable {
        /// Which one.
        setting: Setting,
        /// The value that it has.
        found: String,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// It could not be read.
    #[error("cannot read {}, which must be {}: {cause}", setting.name(), setting.wanted)]
    NotReadable {
        /// Which one.
        setting: Setting,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The kernel does not have it.
    #[error(
        "{} does not exist: its kernel module is not loaded, or the kernel is built without it",
        setting.name()
    )]
    Missing {
        /// Which one.
        setting: Setting,
    },
}

impl SysctlError {
    /// The setting that it is about.
    #[must_use]
    pub fn setting(&self) -> Setting {
        match self {
            Self::NotWritable { setting, .. }
            | Self::NotReadable { setting, .. }
            | Self::Missing { setting } => *setting,
        }
    }

    /// Whether services do not work at all because of it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.setting().need == Necessity::Required
    }
}

/// What [`Sysctls::ensure`] did.
#[derive(Default, Debug)]
pub struct Ensured {
    /// What was wrong and is right now.
    pub changed: Vec<SysctlChange>,
    /// What is still wrong.
    pub failed: Vec<SysctlError>,
}

/// The kernel settings of a network namespace.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self::at("/proc/sys")
    }
}

impl Sysctls {
    /// The settings below `root`, for a `/proc` mounted elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Reads the value of a setting, without surrounding white space.
    ///
    /// # Errors
    /// As reading a file.
    pub fn read(&self, path: &str) -> io::Result<String> {
        std::fs::read_to_string(self.root.join(path)).map(|text| text.trim().to_owned())
    }

    /// Compares every setting with the value that it must have for services of the given
    /// families; changes nothing.
    #[must_use]
    pub fn check(&self, families: &[Family]) -> Vec<(Setting, SysctlState)> {
        Setting::of(families).map(|setting| (setting, self.state(setting))).collect()
    }

    /// Writes the settings that differ from what services of the given families need. One that
    /// cannot be written does not stop the others; a read-only `/proc/sys` with the right values is
    /// fine.
    #[must_use]
    pub fn ensure(&self, families: &[Family]) -> Ensured {
        let mut ensured = Ensured::default();
        for setting in Setting::of(families) {
            match self.ensure_one(setting) {
                Ok(None) => {}
                Ok(Some(change)) => ensured.changed.push(change),
                Err(error) => ensured.failed.push(error),
            }
        }
        ensured
    }

    fn state(&self, setting: Setting) -> SysctlState {
        match self.read(setting.path) {
            Ok(found) if found == setting.wanted => SysctlState::Right,
            Ok(found) => SysctlState::Wrong { found, writable: is_writable(&self.path(setting)) },
            Err(error) if error.kind() == ErrorKind::NotFound => SysctlState::Missing,
            Err(error) => SysctlState::Unreadable(error.to_string()),
        }
    }

    fn ensure_one(&self, setting: Setting) -> Result<Option<SysctlChange>, SysctlError> {
        let found = match self.read(setting.path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match setting.need {
                    Necessity::Required => Err(SysctlError::Missing { setting }),
                    Necessity::Advised => Ok(None),
                };
            }
            Err(cause) => return Err(SysctlError::NotReadable { setting, cause }),
        };
        if found == setting.wanted {
            return Ok(None);
        }
        match write_existing(&self.path(setting), setting.wanted) {
            Ok(()) => Ok(Some(SysctlChange { setting, before: found })),
            Err(cause) => Err(SysctlError::NotWritable { setting, found, cause }),
        }
    }

    fn path(&self, setting: Setting) -> PathBuf {
        self.root.join(setting.path)
    }
}

/// Whether this process may write a file; false on a read-only mount, root or not.
fn is_writable(path: &Path) -> bool {
    access(path, Access::WRITE_OK).is_ok()
}

/// Writes without creating or truncating: `/proc` knows neither.
fn write_existing(path: &Path, value: &str) -> io::Result<()> {
    use io::Write as _;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    /// A tree with every setting right, or else at 0, but those in `except` missing.
    fn tree(is_right: bool, except: &[&str]) -> (tempfile::TempDir, Sysctls) {
        let directory = tempfile::tempdir().unwrap();
        for setting in SETTINGS.iter().filter(|s| !except.contains(&s.path)) {
            let path = directory.path().join(setting.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let value = if is_right { setting.wanted } else { "0" };
            fs::write(path, format!("{value}\n")).unwrap();
        }
        let sysctls = Sysctls::at(directory.path());
        (directory, sysctls)
    }

    #[test]
    fn writes_only_what_differs() {
        let (directory, sysctls) = tree(true, &[]);
        fs::write(directory.path().join("net/ipv4/ip_forward"), "0\n").unwrap();
        let ensured = sysctls.ensure(&Family::BOTH);
        assert!(ensured.failed.is_empty());
        let changed: Vec<String> = ensured.changed.iter().map(ToString::to_string).collect();
        assert_eq!(changed, ["net.ipv4.ip_forward 0 -> 1"]);
        assert!(sysctls.check(&Family::BOTH).iter().all(|(_, state)| *state == SysctlState::Right));
        assert!(sysctls.ensure(&Family::BOTH).changed.is_empty());
    }

    #[test]
    fn right_values_need_no_writing() {
        let (directory, sysctls) = tree(true, &[]);
        for setting in SETTINGS {
            let path = directory.path().join(setting.path);
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions).unwrap();
        }
        let ensured = sysctls.ensure(&Family::BOTH);
        assert!(ensured.changed.is_empty() && ensured.failed.is_empty());
    }

    #[test]
    fn missing_required_is_an_error_and_missing_advised_is_not() {
        let (_directory, sysctls) =
            tree(true, &["net/ipv4/vs/conntrack", "net/bridge/bridge-nf-call-iptables"]);
        let ensured = sysctls.ensure(&Family::BOTH);
        assert_eq!(ensured.failed.len(), 1);
        assert!(ensured.failed[0].is_fatal());
        assert_eq!(ensured.failed[0].setting().path, "net/ipv4/vs/conntrack");
    }

    #[test]
    fn ipv6_settings_are_left_alone_without_ipv6_services() {
        let (_directory, sysctls) = tree(false, &[]);
        let ensured = sysctls.ensure(&[Family::V4]);
        assert!(ensured.changed.iter().all(|c| c.setting.family != Some(Family::V6)));
        assert_eq!(sysctls.read("net/ipv6/conf/all/forwarding").unwrap(), "0");
    }

    #[test]
    fn the_error_names_the_command() {
        let error = SysctlError::NotWritable {
            setting: SETTINGS[4],
            found: "0".to_owned(),
            cause: io::Error::from(ErrorKind::ReadOnlyFilesystem),
        };
        let text = error.to_string();
        assert!(text.contains("`sysctl -w net.ipv4.ip_forward=1`"), "{text}");
    }
}
