//! Applies a changed configuration to the running agent, as far as that can be done.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::watch;
use tracing::{info, warn};

use super::engine_loop::Input;
use super::events::{EventReason, EventRecorder, InvolvedObject, ReportedEvent};
use super::health::Health;
use super::log::Level;
use crate::config::{self, Config, SharedFlags};

/// Applies a changed configuration to the running agent.
pub(super) struct Reconfigure {
    /// What stands beside the file, and where the file is.
    pub(super) flags: SharedFlags,
    /// What is so now.
    pub(super) config: Config,
    /// To the engine's thread.
    pub(super) inputs: Sender<Input>,
    /// Knows how long an update may wait.
    pub(super) health: Arc<Health>,
    /// Who is told of what cannot be applied.
    pub(super) notices: EventRecorder,
    /// What is logged.
    pub(super) level: Level,
    /// What `/configz` shows.
    pub(super) shown: watch::Sender<serde_json::Value>,
}

impl Reconfigure {
    /// The file says this now.
    pub(super) fn apply(&mut self, text: &str) {
        // Read as a configuration, nothing at all would be all the defaults.
        if text.trim().is_empty() {
            return self.refuse("the file is empty");
        }
        let new = match config::resolve(&self.flags) {
            Ok(new) => new,
            Err(error) => return self.refuse(&error.to_string()),
        };
        for warning in &new.warnings {
            warn!("{warning}");
        }
        let (config, kept) = self.config.adopt(new);
        if let Err(error) = self.level.set(&config.log.level) {
            return self.refuse(&error.to_string());
        }
        self.health.set_sync_period(config.sync_period);
        // Nobody takes it once the agent ends.
        let _ = self.inputs.send(Input::Configuration(Box::new(config.clone())));
        self.shown.send_replace(config::show(&config));
        self.config = config;
        info!("the changed configuration is applied");
        if !kept.is_empty() {
            let message = format!(
                "{} changed in the configuration file, which only a restart applies: until then \
                 the old value stays",
                kept.join(", ")
            );
            self.tell(EventReason::RestartNeeded, message);
        }
    }

    fn refuse(&self, why: &str) {
        let message = format!(
            "the changed configuration is of no use: {why}; the old one stays. `kube-ipvs run \
             --write-config-to -` prints what may stand there"
        );
        self.tell(EventReason::ConfigurationInvalid, message);
    }

    fn tell(&self, reason: EventReason, message: String) {
        self.notices.report(ReportedEvent { about: InvolvedObject::Node, reason, message });
    }
}
