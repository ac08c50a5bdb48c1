//! What is known of the build of this program.

use std::env::consts;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A build, as `version -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Build {
    pub version: String,
    /// The commit of the source. As the next two, it is what the environment named when the program
    /// was built, by `make build` and by releases; or else `unknown`.
    pub commit: String,
    /// The time of the commit, in RFC 3339.
    pub date: String,
    /// As `rustc --version` prints it.
    pub toolchain: String,
    /// Operating system and architecture.
    pub platform: String,
}

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const COMMIT: &str = named(option_env!("KUBE_IPVS_COMMIT"));
const DATE: &str = named(option_env!("KUBE_IPVS_DATE"));
const TOOLCHAIN: &str = named(option_env!("KUBE_IPVS_TOOLCHAIN"));

const fn named(variable: Option<&'static str>) -> &'static str {
    match variable {
        Some(text) => text,
        None => "unknown",
    }
}

impl Build {
    /// The build of this program.
    #[must_use]
    pub fn this() -> Self {
        Self {
            version: VERSION.into(),
            commit: COMMIT.into(),
            date: DATE.into(),
            toolchain: TOOLCHAIN.into(),
            platform: format!("{}/{}", consts::OS, consts::ARCH),
        }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kube-ipvs {}", self.version)
    }
}
