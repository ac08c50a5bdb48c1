//! Logs: on standard error, as text or JSON.

use std::error::Error;
use std::io;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::{EnvFilter, reload};

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging.
///
/// # Errors
///
/// If the level is none.
pub fn start(config: &LogConfig) -> Result<Level, ConfigError> {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(filter(&config.level)?);
    match config.format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Ok(Level(Box::new(move |filter| handle.reload(filter))))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Ok(Level(Box::new(move |filter| handle.reload(filter))))
        }
    }
}

/// What is logged, which may change.
pub struct Level(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send>);

impl Level {
    /// Logs at another level.
    ///
    /// # Errors
    ///
    /// If the level is none.
    pub fn set(&self, level: &str) -> Result<(), ConfigError> {
        (self.0)(filter(level)?).map_err(|error| wrong(level, &error))
    }
}

/// A level alone is ours: the libraries beneath are heard from `warn` on only, lest their
/// debugging drowns ours. A filter by module is taken as it is.
fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
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

    use super::*;

    #[test]
    fn levels_are_ours_and_filters_are_taken_as_they_are() {
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
    fn a_wrong_level_is_told_with_the_right_ones() {
        for level in ["loud", "kube_ipvs=loud"] {
            let error = filter(level).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--log-level: {level:?}: ")), "{error}");
            assert!(error.contains("use error, warn, info, debug, trace"), "{error}");
        }
    }
}
