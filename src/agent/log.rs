//! Logging to standard error, as text or JSON.

use std::error::Error;
use std::io::{self, Write};

use kube_ipvs_core::model::one_line;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{ConfigError, LogFormat};

/// Starts logging.
///
/// # Errors
///
/// If the level is invalid.
pub fn start(format: LogFormat, level: &str) -> Result<(), ConfigError> {
    let is_text = format == LogFormat::Text;
    let lines = tracing_subscriber::fmt()
        .with_writer(move || Lines { out: io::stderr(), is_text })
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(filter(level)?);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Writes one line at a time. External text in a message can neither forge another line nor control
/// a terminal; JSON escapes it anyway.
struct Lines<W> {
    out: W,
    is_text: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match str::from_utf8(line) {
            Ok(text) if self.is_text => {
                let shown = one_line(text.trim_end_matches('\n'));
                self.out.write_all(&[shown.as_bytes(), b"\n"].concat())?;
            }
            _ => self.out.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A plain level applies to the agent; its libraries log from `warn` on, so that their debug output
/// does not bury the agent's. A filter by module is used as it is.
pub(super) fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
    let is_filter = level.contains(['=', ',']);
    let directives = match level.parse::<LevelFilter>() {
        Ok(LevelFilter::OFF | LevelFilter::ERROR) => level.to_owned(),
        Ok(_) => format!("warn,kube_ipvs={level}"),
        Err(_) if is_filter => level.to_owned(),
        Err(error) => return Err(wrong(level, &error)),
    };
    EnvFilter::try_new(directives).map_err(|error| wrong(level, &error))
}

fn wrong(level: &str, error: &dyn Error) -> ConfigError {
    let use_instead = "use error, warn, info, debug, trace, or a filter such as kube_ipvs=debug";
    ConfigError::Value {
        option: "--log-level".to_owned(),
        reason: format!("{level:?}: {error}; {use_instead}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn log_levels_and_filters_are_read() {
        let cases = [
            ("debug", "kube_ipvs=debug,warn"),
            ("error", "error"),
            ("kube_ipvs=trace,info", "kube_ipvs=trace,info"),
        ];
        for (level, expected) in cases {
            assert_eq!(filter(level).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn logged_text_cannot_forge_lines_or_control_a_terminal() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&log);
        let writer = move || Lines { out: Shared(Arc::clone(&out)), is_text: true };
        let lines = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
        let name = "web\u{1b}[2J\n2026-01-01T00:00:00Z ERROR forged\u{9b}1m";
        tracing::subscriber::with_default(lines, || {
            tracing::warn!(service = %name, field = name, "{name}");
            tracing::info!("next");
        });
        let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(log.matches("forged").count() == 3 && log.ends_with("next\n"), "{log}");
        assert!(!log.contains(|letter: char| letter.is_control() && letter != '\n'), "{log:?}");
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_invalid_level_is_reported_with_the_valid_ones() {
        for level in ["loud", "kube_ipvs=loud"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--log-level: {level:?}: ")), "{error}");
            assert!(error.contains("use error, warn, info, debug, trace"), "{error}");
        }
    }
}
