//! Logging to standard error, as text or JSON. In JSON every line is an object: also those about the
//! command line, the configuration and a panic.

mod json;

use std::io::{self, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use json::{JsonFormat, JsonLine};
use kube_ipvs_core::model::one_line;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{ConfigError, LogFormat};

/// Whether lines are JSON. The log is of the whole process, as its standard error is.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Selects the form of all lines from here on, before logging starts.
pub fn select(format: LogFormat) {
    let is_json = format == LogFormat::Json;
    if IS_JSON.swap(is_json, Ordering::Relaxed) || !is_json {
        return;
    }
    panic::set_hook(Box::new(|panic| {
        let _ = write_json(&JsonLine::of_panic(panic));
    }));
}

/// Writes the line about an error that ends the program.
///
/// # Errors
///
/// If standard error cannot be written.
pub fn report_end(message: &str) -> io::Result<()> {
    if IS_JSON.load(Ordering::Relaxed) {
        return write_json(&JsonLine::of_error(message));
    }
    writeln!(io::stderr(), "kube-ipvs: {}", one_line(message))
}

fn write_json(line: &JsonLine) -> io::Result<()> {
    writeln!(io::stderr(), "{}", line.text()?)
}

/// Starts logging.
///
/// # Errors
///
/// If the level is invalid.
pub fn start(format: LogFormat, level: &str) -> Result<(), ConfigError> {
    select(format);
    let is_text = format == LogFormat::Text;
    let lines = fmt::layer()
        .with_writer(move || Lines { out: io::stderr(), is_text })
        .with_ansi(false)
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.event_format(JsonFormat).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter(level)?)).init();
    Ok(())
}

/// Writes one line at a time. External text in a message can neither forge another line nor control
/// a terminal; [`JsonLine`] escapes its own.
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
pub(super) fn filter(level: &str) -> Result<Targets, ConfigError> {
    let is_filter = level.contains(['=', ',']);
    let directives = match level.parse::<LevelFilter>() {
        Ok(LevelFilter::OFF | LevelFilter::ERROR) => level.to_owned(),
        Ok(_) => format!("warn,kube_ipvs={level}"),
        Err(_) if is_filter => level.to_owned(),
        Err(_) => return Err(wrong(level)),
    };
    directives.parse().map_err(|_| wrong(level))
}

fn wrong(level: &str) -> ConfigError {
    let allowed = "use error, warn, info, debug, trace, or a filter such as kube_ipvs=debug";
    ConfigError::Value { option: "--log-level".to_owned(), reason: format!("{level:?}: {allowed}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::{Value, json};

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
        let lines = fmt().with_writer(writer).with_ansi(false).finish();
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
    fn json_lines_have_the_keys_of_kubernetes() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let out = Arc::clone(&log);
        let writer = move || Lines { out: Shared(Arc::clone(&out)), is_text: false };
        let lines = fmt().with_max_level(tracing::Level::DEBUG);
        let lines = lines.event_format(JsonFormat).with_writer(writer).finish();
        tracing::subscriber::with_default(lines, || {
            tracing::info!(count = 3, ts = "forged", took = ?Duration::ZERO, "a\n\"b\"");
            tracing::warn!(pod = "\u{9b}1m\u{202e}", "\u{7f}");
            tracing::error!(error = %"no such file", "cannot read");
            tracing::debug!("more");
        });
        let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [info, warning, error, debug] = &*lines else { panic!("{text}") };
        assert!(info["ts"].as_f64().is_some_and(|millis| millis > 1.6e12), "{info}");
        assert_eq!((&info["msg"], &info["v"]), (&json!("a\n\"b\""), &json!(0)));
        assert_eq!(
            (&warning["pod"], &warning["msg"]),
            (&json!("\u{9b}1m\u{202e}"), &json!("\u{7f}"))
        );
        assert!(text.contains(r"\u009b1m\u202e") && text.contains(r"\u007f"), "{text:?}");
        assert_eq!((&info["count"], &info["took"]), (&json!(3), &json!("0ns")));
        assert_eq!(info["logger"], "kube_ipvs::agent::log::tests");
        let caller = info["caller"].as_str().unwrap();
        assert!(caller.starts_with("log/mod.rs:"), "{caller}");
        assert_eq!(text.lines().next().unwrap().matches("\"ts\"").count(), 1, "{text}");
        assert_eq!((&error["err"], &error["level"]), (&json!("no such file"), &json!("error")));
        assert!(error.get("v").is_none(), "as Kubernetes marks an error: {error}");
        assert_eq!(debug["v"], 4);
    }

    #[test]
    fn an_invalid_level_is_reported_with_the_valid_ones() {
        for level in ["loud", "kube_ipvs=loud"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--log-level: {level:?}: ")), "{error}");
            assert!(error.contains("use error, warn, info, debug, trace"), "{error}");
            assert!(!error.contains("expected"), "{error}");
        }
    }
}
