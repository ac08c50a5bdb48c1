//! `status`: what the running agent holds.

use std::io::{self, Write};
use std::process::ExitCode;

use super::{StatusFormat, TextFormat, output, running};
use crate::agent::api::{StatusFilter, StatusQuestion, StatusView, WideStatus};
use crate::client::AgentClient;
use crate::config::{ConfigError, SharedFlags};

pub(super) fn run(
    shared: &SharedFlags,
    filter: StatusFilter,
    form: StatusFormat,
) -> anyhow::Result<ExitCode> {
    let counters = form != StatusFormat::Text;
    let question = StatusQuestion { filter, counters, busiest: None };
    let status = client(shared)?.status(&question)?;
    let StatusFilter { namespace, name, .. } = question.filter;
    if let (Some(namespace), Some(name), []) = (namespace, name, &*status.services) {
        anyhow::bail!("the agent serves no Service {namespace}/{name}");
    }
    if let Some(reason) = &status.uncounted {
        output::report(reason)?;
    }
    match form {
        StatusFormat::Text => output::print(TextFormat::Text, &status)?,
        StatusFormat::Json => output::print(TextFormat::Json, &status)?,
        StatusFormat::Yaml => write!(io::stdout(), "{}", yaml(&status)?)?,
        StatusFormat::Wide => {
            let status = output::shown(&status)?;
            write!(io::stdout(), "{}", WideStatus(&status))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The object of JSON. YAML leaves changes of the text direction as they are, so texts are escaped
/// before.
fn yaml(status: &StatusView) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(&output::shown(status)?)?)
}

/// The agent that runs with this configuration, or else here.
pub(super) fn client(shared: &SharedFlags) -> anyhow::Result<AgentClient> {
    let config = running::config(shared, false)?;
    let address = config.metrics_address.ok_or_else(|| ConfigError::Value {
        option: "metricsBindAddress".to_owned(),
        reason: "the agent is asked there, so it cannot be off".to_owned(),
    })?;
    Ok(AgentClient::new(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::api::StatusTotals;

    /// Clears the screen, forges a line, turns what follows, and begins a sequence of eight bits.
    const HOSTILE: &str = "web\u{1b}[2J\r\nforged\u{202e}\u{9b}1m";

    #[test]
    fn yaml_is_the_object_of_json_and_controls_no_terminal() {
        let of_node = |node: &str| {
            serde_json::json!({
                "node": node, "synced": true, "lastSync": null,
                "totals": StatusTotals::default(), "services": [],
                "failures": [{"operation": "", "message": "", "attempts": 1, "pod": "web-0"}],
            })
        };
        let status =
            |node| -> StatusView { serde_json::from_value(of_node(node)).expect("a status") };
        let text = yaml(&status(HOSTILE)).expect("YAML");
        let is_obeyed =
            |letter: char| letter == '\u{202e}' || letter.is_control() && letter != '\n';
        assert!(!text.contains(is_obeyed), "{text:?}");
        let read = serde_saphyr::from_str(&yaml(&status("n1")).expect("YAML"));
        assert_eq!(status("n1"), read.expect("a status"));
    }
}
