//! What is logged, and in which form.

use super::kube_proxy::Logging;
use super::{LogFormat, SharedFlags};

/// What is logged, and in which form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// The form.
    pub format: LogFormat,
    /// A level, or a filter of levels by module.
    pub level: String,
}

/// kube-proxy's verbosities from which on there is debugging, and more than that.
const DEBUG_VERBOSITY: u32 = 4;
const TRACE_VERBOSITY: u32 = 6;

impl LogConfig {
    /// From flags and file; flags have precedence. Else the field that is wrong, and why.
    pub(super) fn new(
        flags: &SharedFlags,
        file: Option<&Logging>,
    ) -> Result<Self, (&'static str, String)> {
        let format = match file.and_then(|logging| logging.format.as_deref()) {
            None | Some("" | "text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                return Err(("logging.format", format!("{other:?} is neither text nor json")));
            }
        };
        let verbosity = flags.verbosity.or(file.and_then(|logging| logging.verbosity));
        let level = flags.log_level.as_deref().filter(|level| !level.trim().is_empty());
        let level = level.unwrap_or(match verbosity.unwrap_or_default() {
            ..DEBUG_VERBOSITY => "info",
            DEBUG_VERBOSITY..TRACE_VERBOSITY => "debug",
            TRACE_VERBOSITY.. => "trace",
        });
        let format = flags.log_format.unwrap_or(format);
        Ok(Self { format, level: level.trim().to_owned() })
    }
}
