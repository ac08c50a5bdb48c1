//! The log lines of the start: what runs here, and what the first sync waits for.

use std::time::{Duration, Instant};

use kube_ipvs_core::engine::Engine;
use tracing::info;

use crate::build::{COMMIT, VERSION};
use crate::config::{Config, SharedFlags, SourceConfig};
use crate::kernel::release;
use crate::source::kubernetes::server_urls;

/// How long the first sync may take without a line.
const FIRST_LINE: Duration = Duration::from_secs(5);
/// The time between lines.
const AGAIN: Duration = Duration::from_secs(30);

/// Logs what starts here, and by which configuration.
pub(super) async fn announce(config: &Config, flags: &SharedFlags) {
    let source = match &config.source {
        SourceConfig::Manifests(directory) => directory.display().to_string(),
        SourceConfig::Kubernetes(access) => {
            // The error ends the agent when it connects.
            server_urls(access).await.unwrap_or_else(|error| error.to_string())
        }
    };
    info!(
        version = VERSION,
        commit = COMMIT,
        node = %config.settings.node_name,
        kernel = release(),
        source,
        config = flags.config.as_ref().map_or("flags".to_owned(), |it| it.display().to_string()),
        "kube-ipvs starts"
    );
}

/// Logs what the first sync waits for, as long as it waits.
#[derive(Debug)]
pub(super) struct StartLog {
    source: String,
    next: Option<Instant>,
}

impl StartLog {
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let source = match &config.source {
            SourceConfig::Manifests(directory) => directory.display().to_string(),
            SourceConfig::Kubernetes(_) => "the API server".to_owned(),
        };
        Self { source, next: Some(now + FIRST_LINE) }
    }

    /// Returns when [`StartLog::log`] has a line.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Called once the first sync is done.
    pub(super) fn end(&mut self) {
        self.next = None;
    }

    /// Writes the line that is due.
    pub(super) fn log(&mut self, engine: &Engine, now: Instant) {
        if self.next.is_none_or(|next| next > now) {
            return;
        }
        self.next = Some(now + AGAIN);
        match self.cause(engine) {
            Some(cause) => {
                info!("waiting for {cause}; Services keep the state from before the start")
            }
            None => {
                info!(failures = engine.failures(), "waiting for the kernel to take the first sync")
            }
        }
    }

    /// Returns the kinds that the source has not listed.
    fn cause(&self, engine: &Engine) -> Option<String> {
        let kinds: Vec<_> = engine.state().unlisted().collect();
        (!kinds.is_empty())
            .then(|| format!("{}: no list of {} objects yet", self.source, kinds.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::{Change, Event, Settings};

    use super::*;

    #[test]
    fn the_kinds_that_are_waited_for_are_named() {
        let mut engine = Engine::new(&Settings::for_node("n1"), None);
        let log = StartLog::new(&Config::default(), Instant::now());
        engine.handle_event(Event::Node(None));
        engine.handle_event(Event::Service(Change::Replace(Vec::new())));
        let cause = log.cause(&engine).unwrap_or_default();
        assert_eq!(cause, "the API server: no list of ServiceCIDR, EndpointSlice objects yet");
        engine.handle_event(Event::ServiceCidrs(Change::Replace(Vec::new())));
        engine.handle_event(Event::Slice(Change::Replace(Vec::new())));
        assert_eq!(log.cause(&engine), None);
    }
}
