//! Another configuration: the agent validates it and replaces itself, so that it applies as a whole.

use std::env;
use std::future::pending;
use std::io;
use std::os::unix::process::CommandExt;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::warn;

use super::events::EventReason;
use super::run::Agent;
use super::sources::find_server;
use super::{config_file, log};
use crate::config::{self, Config, SharedFlags, SourceConfig};
use crate::kernel::Kernel;

/// This program, even if its file was replaced or deleted.
const SELF: &str = "/proc/self/exe";

impl Agent {
    /// Reads the configuration file whenever it changes. A node that has run out of watches still serves
    /// its Services.
    pub(super) fn follow_config(
        &self,
        flags: &SharedFlags,
    ) -> UnboundedReceiver<anyhow::Result<Config>> {
        let (sender, changes) = unbounded_channel();
        let Some(path) = &flags.config else { return changes };
        let read = flags.clone();
        let changed = move |text: io::Result<&str>| {
            let config = text.map_err(Into::into).and_then(|_| Ok(config::resolve(&read)?));
            // Nothing receives it once the agent ends.
            let _ = sender.send(config);
        };
        if let Err(error) = config_file::follow(path, changed) {
            let path = path.display();
            warn!("{path} cannot be watched: {error}; its changes need a restart of the agent");
        }
        changes
    }

    /// Ready once the configuration file holds another configuration that the agent can start with.
    pub(super) async fn changed_config(
        &self,
        mut changes: UnboundedReceiver<anyhow::Result<Config>>,
    ) {
        while let Some(changed) = changes.recv().await {
            let is_other = match changed {
                Ok(config) if config == self.config => Ok(false),
                Ok(config) => check(&config).await.map(|()| true),
                Err(error) => Err(error),
            };
            match is_other {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => self.handles.notices.report_node(
                    EventReason::ConfigurationInvalid,
                    format!(
                        "the changed configuration is invalid: {error:#}; the old one stays. \
                         `kube-ipvs run --write-config-to -` prints the valid options"
                    ),
                ),
            }
        }
        pending().await
    }
}

/// Checks whether the agent can start with another configuration.
async fn check(config: &Config) -> anyhow::Result<()> {
    log::filter(&config.log_level)?;
    Kernel::check_carry(&config.settings.carry)?;
    if let SourceConfig::Kubernetes(access) = &config.source {
        find_server(access, config).await?;
    }
    Ok(())
}

/// Starts this program again as this very process, with the same arguments and environment. Returns
/// only if that fails.
#[allow(clippy::disallowed_types, reason = "it becomes this program itself, and runs no other")]
pub(super) fn replace() -> io::Error {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    std::process::Command::new(SELF).arg0(name).args(arguments).exec()
}
