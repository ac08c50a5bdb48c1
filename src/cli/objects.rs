//! Objects from `--manifests`, for the commands that need no agent.

use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::model::{Change, Event, Settings};
use kube_ipvs_core::state::State;

use super::output;
use crate::config::{Config, ConfigError, SharedFlags, resolve};
use crate::source::manifests;

/// The settings and everything that the manifests hold. Objects that cannot be used are reported
/// on standard error.
pub(super) fn load(shared: &SharedFlags, command: &str) -> anyhow::Result<(Settings, Vec<Event>)> {
    let Config { settings, warnings, .. } = resolve(shared)?;
    let Some(directory) = &shared.manifests else {
        let reason = format!("`{command}` takes its objects from a directory: give one");
        return Err(ConfigError::Value { option: "--manifests".to_owned(), reason }.into());
    };
    let (events, problems) = manifests::load(directory, &settings.node_name)?;
    for line in warnings.iter().chain(&problems) {
        output::report(line)?;
    }
    let is_empty =
        |event: &Event| matches!(event, Event::Service(Change::Replace(all)) if all.is_empty());
    if events.iter().any(is_empty) {
        output::report(format_args!("there is no Service in {}", directory.display()))?;
    }
    Ok((settings, events))
}

/// The objects of the manifests, and their desired state. Ignored options are reported on standard
/// error.
pub(super) fn desired(
    shared: &SharedFlags,
    command: &str,
) -> anyhow::Result<(State, DesiredState)> {
    let (settings, events) = load(shared, command)?;
    let mut state = State::new(settings.node_name.clone());
    events.into_iter().for_each(|event| state.apply(event));
    let mut desired = DesiredState::new(&settings);
    desired.update(&mut state);
    let mut services: Vec<_> = desired.services().collect();
    services.sort_unstable_by_key(|(key, _)| *key);
    for (key, service) in services {
        for reason in &service.ignored_options {
            output::report(format_args!("{key}: an option is ignored: {reason}"))?;
        }
    }
    Ok((state, desired))
}
