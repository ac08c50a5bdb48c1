//! Kernel settings under `/proc/sys` that services need, or that the configuration asks for.
//!
//! All of them belong to the network namespace of this process. The settings of IPVS exist once its
//! module is loaded, so the agent opens IPVS first.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use kube_ipvs_core::model::{Family, one_line};
use rustix::fs::{Access, access};

/// The settings of this process's network namespace.
pub const ROOT: &str = "/proc/sys";

/// What follows if a setting has another value and cannot be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Necessity {
    /// Services do not work.
    Required,
    /// Some flows do not work. A setting whose file is missing does not matter.
    Advised,
    /// Services work. The configuration asks for the value.
    Configured,
}

/// A setting with the value that it should have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sysctl {
    /// The path below [`ROOT`].
    pub path: &'static str,
    pub value: u64,
    /// Set if a higher value is right, too.
    pub is_minimum: bool,
    pub need: Necessity,
    /// `None` for both.
    pub family: Option<Family>,
    /// What goes wrong without it; empty for a setting of the configuration.
    pub why: &'static str,
}

/// Every setting that services need. The agent leaves others alone.
pub const NEEDED: [Sysctl; 9] = [
    required(
        "net/ipv4/vs/conntrack",
        "masquerading is decided by the connection's original destination",
    ),
    required(
        "net/ipv4/vs/expire_nodest_conn",
        "connections to a deleted endpoint would hang instead of ending or moving",
    ),
    required(
        "net/ipv4/vs/expire_quiescent_template",
        "session affinity would hold clients on an endpoint that is being drained",
    ),
    required(
        "net/ipv4/vs/conn_reuse_mode",
        "a reused source port would be sent to the endpoint of the former connection",
    ),
    Sysctl {
        family: Some(Family::V4),
        ..required(
            "net/ipv4/ip_forward",
            "endpoints on other nodes and clients outside would not be reached",
        )
    },
    advised(
        "net/ipv6/conf/all/forwarding",
        Family::V6,
        "IPv6 endpoints on other nodes and IPv6 clients outside would not be reached",
    ),
    // The default of kernels that count no routes.
    Sysctl {
        value: 2_147_483_647,
        ..advised(
            "net/ipv6/route/max_size",
            Family::V6,
            "a kernel before 6.3 may reach no more IPv6 addresses than that, divided by processors",
        )
    },
    advised(
        "net/bridge/bridge-nf-call-iptables",
        Family::V4,
        "replies between pods on one bridge would bypass IPVS and carry the wrong source",
    ),
    advised(
        "net/bridge/bridge-nf-call-ip6tables",
        Family::V6,
        "IPv6 replies between pods on one bridge would bypass IPVS",
    ),
];

const fn required(path: &'static str, why: &'static str) -> Sysctl {
    Sysctl { need: Necessity::Required, why, ..Sysctl::configured(path, 1) }
}

const fn advised(path: &'static str, family: Family, why: &'static str) -> Sysctl {
    Sysctl { need: Necessity::Advised, family: Some(family), ..required(path, why) }
}

impl Sysctl {
    /// Returns the settings that Services of the given families need. Settings of another family stay
    /// as they are: IPv6 forwarding, for example, makes the kernel ignore router advertisements on
    /// devices with an `accept_ra` other than 2.
    pub fn needed(families: &[Family]) -> impl Iterator<Item = Self> {
        NEEDED.into_iter().filter(move |it| it.family.is_none_or(|of| families.contains(&of)))
    }

    /// Returns a setting that the configuration asks for.
    #[must_use]
    pub const fn configured(path: &'static str, value: u64) -> Self {
        let (need, is_minimum) = (Necessity::Configured, false);
        Self { path, value, is_minimum, need, family: None, why: "" }
    }

    /// Returns a setting that the configuration asks for, with a value that may be higher.
    #[must_use]
    pub const fn configured_minimum(path: &'static str, value: u64) -> Self {
        Self { is_minimum: true, ..Self::configured(path, value) }
    }

    /// Returns the name that `sysctl` takes.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.replace('/', ".")
    }

    /// Returns name and value as `sysctl -w` and `/etc/sysctl.d` take them.
    #[must_use]
    pub fn assignment(&self) -> String {
        format!("{}={}", self.name(), self.value)
    }

    #[must_use]
    pub fn command(&self) -> String {
        format!("sysctl -w {}", self.assignment())
    }

    fn accepts(&self, found: &str) -> bool {
        let found = found.parse::<u64>();
        found.is_ok_and(|found| found == self.value || self.is_minimum && found > self.value)
    }
}

/// The state in which a setting was found, or to which [`apply`] has changed it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SysctlState {
    Right,
    /// It had another value and has been set.
    Set {
        before: String,
    },
    Wrong {
        found: String,
        /// The reason for which this process cannot write it; `None` if it may.
        refusal: Option<String>,
    },
    /// The kernel does not have it: its module is not loaded, or not yet.
    Missing,
    /// With the kernel's answer.
    Unreadable(String),
}

/// A setting and its state. Its text says what happened and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SysctlReport {
    pub sysctl: Sysctl,
    pub state: SysctlState,
}

impl SysctlReport {
    /// Returns whether [`apply`] has changed the setting.
    #[must_use]
    pub fn is_set(&self) -> bool {
        matches!(self.state, SysctlState::Set { .. })
    }

    /// Returns whether Services do not work at all because of the setting.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.sysctl.need == Necessity::Required
            && !matches!(self.state, SysctlState::Right | SysctlState::Set { .. })
    }

    fn is_noteworthy(&self) -> bool {
        match self.state {
            SysctlState::Right => false,
            SysctlState::Missing => self.sysctl.need != Necessity::Advised,
            _ => true,
        }
    }
}

impl fmt::Display for SysctlReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sysctl, state } = self;
        let (name, value, command) = (sysctl.name(), sysctl.value, sysctl.command());
        let cause = match state {
            SysctlState::Right => return write!(f, "{name} is {value}"),
            SysctlState::Set { before } => return write!(f, "{name} {before} -> {value}"),
            SysctlState::Wrong { refusal, .. } => refusal.as_deref().unwrap_or("it was not tried"),
            SysctlState::Missing => "it does not exist",
            SysctlState::Unreadable(cause) => cause,
        };
        match state {
            _ if sysctl.need == Necessity::Configured => write!(
                f,
                "{name} should be {value} and cannot be set here ({cause}): run `{command}` on the node"
            ),
            SysctlState::Missing => write!(
                f,
                "{name} does not exist: its kernel module is not loaded, or the kernel is built \
                 without it"
            ),
            SysctlState::Wrong { found, .. } => write!(
                f,
                "{name} is {found} and must be {value}, or {}; it cannot be written here ({cause}): \
                 run `{command}` on the node",
                sysctl.why
            ),
            _ => write!(f, "cannot read {name}, which must be {value}: {cause}"),
        }
    }
}

/// Reads the value of a setting below a directory such as [`ROOT`], without surrounding white space.
///
/// # Errors
///
/// If the file cannot be read.
pub fn read(root: impl AsRef<Path>, path: &str) -> io::Result<String> {
    fs::read_to_string(root.as_ref().join(path)).map(|text| text.trim().to_owned())
}

fn words(error: impl fmt::Display) -> String {
    one_line(&error.to_string()).into_owned()
}

/// Compares a setting with the value that it should have; changes nothing.
#[must_use]
pub fn check(root: impl AsRef<Path>, sysctl: Sysctl) -> SysctlReport {
    let state = match read(&root, sysctl.path) {
        Ok(found) if sysctl.accepts(&found) => SysctlState::Right,
        Ok(found) => {
            // Fails on a read-only mount, even for root.
            let access = access(root.as_ref().join(sysctl.path), Access::WRITE_OK);
            SysctlState::Wrong { found, refusal: access.err().map(words) }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => SysctlState::Missing,
        Err(error) => SysctlState::Unreadable(words(error)),
    };
    SysctlReport { sysctl, state }
}

/// Writes the settings that differ, in their order, and reports those that it changed or that are
/// still not right. A setting that cannot be written does not stop the others; a read-only
/// `/proc/sys` with the right values is fine.
#[must_use]
pub fn apply(
    root: impl AsRef<Path>,
    sysctls: impl IntoIterator<Item = Sysctl>,
) -> Vec<SysctlReport> {
    let apply = |sysctl: Sysctl| {
        let mut report = check(&root, sysctl);
        if let SysctlState::Wrong { found, .. } = report.state {
            report.state = match write(&root.as_ref().join(sysctl.path), sysctl.value) {
                Ok(()) => SysctlState::Set { before: found },
                Err(error) => SysctlState::Wrong { found, refusal: Some(words(error)) },
            };
        }
        report
    };
    sysctls.into_iter().map(apply).filter(SysctlReport::is_noteworthy).collect()
}

/// Writes without creating or truncating: `/proc` knows neither.
fn write(path: &Path, value: u64) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.to_string().as_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, value) in values {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        directory
    }

    /// Every needed setting with the right value, except those at the given paths.
    fn right(except: &[&str]) -> tempfile::TempDir {
        let kept = NEEDED.iter().filter(|it| !except.contains(&it.path));
        tree(kept.map(|it| (it.path, it.value.to_string())))
    }

    fn texts(reports: &[SysctlReport]) -> Vec<String> {
        reports.iter().map(ToString::to_string).collect()
    }

    fn needed() -> impl Iterator<Item = Sysctl> {
        Sysctl::needed(&Family::BOTH)
    }

    #[test]
    fn writes_only_what_differs() {
        let directory = right(&[]);
        fs::write(directory.path().join("net/ipv4/ip_forward"), "0\n").unwrap();
        assert_eq!(texts(&apply(&directory, needed())), ["net.ipv4.ip_forward 0 -> 1"]);
        assert!(needed().all(|it| check(&directory, it).state == SysctlState::Right));
        assert_eq!(apply(&directory, needed()), []);
    }

    #[test]
    fn right_values_need_no_writing() {
        let directory = right(&[]);
        for sysctl in NEEDED {
            let path = directory.path().join(sysctl.path);
            let mut permissions = fs::metadata(&path).unwrap().permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions).unwrap();
        }
        assert_eq!(apply(&directory, needed()), []);
    }

    #[test]
    fn missing_required_is_an_error_and_missing_advised_is_not() {
        let directory = right(&["net/ipv4/vs/conntrack", "net/bridge/bridge-nf-call-iptables"]);
        let reports = apply(&directory, needed());
        assert_eq!(reports.len(), 1);
        assert!(reports[0].is_fatal());
        assert_eq!(reports[0].sysctl.path, "net/ipv4/vs/conntrack");
    }

    #[test]
    fn ipv6_settings_are_left_alone_without_ipv6_services() {
        let directory = tree(NEEDED.map(|it| (it.path, "0".to_owned())));
        let reports = apply(&directory, Sysctl::needed(&[Family::V4]));
        assert!(!reports.is_empty());
        assert!(reports.iter().all(|it| it.is_set() && it.sysctl.family != Some(Family::V6)));
        assert_eq!(read(&directory, "net/ipv6/conf/all/forwarding").unwrap(), "0");
    }

    #[test]
    fn the_error_names_the_command() {
        let refusal = Some("Read-only file system".to_owned());
        let state = SysctlState::Wrong { found: "0".to_owned(), refusal };
        let report = SysctlReport { sysctl: NEEDED[4], state };
        assert!(report.is_fatal());
        let text = report.to_string();
        assert!(text.contains("`sysctl -w net.ipv4.ip_forward=1`"), "{text}");
    }

    const SIZE: Sysctl = Sysctl::configured_minimum("max", 100);
    const TIME: Sysctl = Sysctl::configured("timeout", 60);

    #[test]
    fn sizes_are_raised_and_times_are_set() {
        let applied = |max: &str, timeout: &str| {
            let directory = tree([("max", max.to_owned()), ("timeout", timeout.to_owned())]);
            let reports = apply(&directory, [SIZE, TIME]);
            assert_eq!(apply(&directory, [SIZE, TIME]), [], "the second time");
            texts(&reports)
        };
        assert_eq!(applied("50", "90"), ["max 50 -> 100", "timeout 90 -> 60"]);
        assert_eq!(applied("150", "60"), Vec::<String>::new());
    }

    #[test]
    fn one_refusal_does_not_stop_the_others() {
        let directory = tree([("timeout", "1".to_owned())]);
        let reports = apply(&directory, [SIZE, TIME]);
        assert!(reports.iter().all(|report| !report.is_fatal()), "services work without them");
        let texts = texts(&reports);
        assert!(texts[0].ends_with("run `sysctl -w max=100` on the node"), "{}", texts[0]);
        assert_eq!(texts[1], "timeout 1 -> 60");
    }
}
