//! What `explain` says, from the manifests that the agent reads.

use clap::Parser;
use kube_ipvs::config::{SharedFlags, resolve};
use kube_ipvs::source::manifests;
use kube_ipvs_core::engine::DesiredState;
use kube_ipvs_core::state::State;

use crate::context::{Failure, Step, TestContext};

/// The options that commands share.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    shared: SharedFlags,
}

/// The desired state.
pub(crate) fn programs(t: &mut TestContext<'_>) -> Step<DesiredState> {
    let fail = |error: &dyn std::fmt::Display| Failure::new("the oracle", "an answer", error);
    let agent = t.agent();
    let options = Options::try_parse_from(std::iter::once("oracle").chain(agent.options()))
        .map_err(|error| fail(&error))?;
    let settings = resolve(&options.shared).map_err(|error| fail(&error))?.settings;
    let (events, problems) =
        manifests::load(agent.manifests(), &settings.node_name).map_err(|error| fail(&error))?;
    if !problems.is_empty() {
        return Err(fail(&problems.join("\n")));
    }
    let mut state = State::new(settings.node_name.clone());
    events.into_iter().for_each(|event| state.apply(event));
    let mut programs = DesiredState::new(&settings);
    programs.update(&mut state);
    Ok(programs)
}
