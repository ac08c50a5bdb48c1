//! `explain`: where a new connection would go, and why.

use std::process::ExitCode;

use kube_ipvs_core::explain::explain;
use kube_ipvs_core::question::ConnectionQuestion;

use super::{TextFormat, objects, output, status};
use crate::agent::api::{ExplainView, explained};
use crate::config::SharedFlags;

/// Where no front end decides, the node's own network does, which manifests do not contain.
fn by_manifests(answer: ExplainView) -> ExplainView {
    if answer.service.is_some() {
        return answer;
    }
    let unknown = "manifests contain neither the node's routes and interfaces nor its listening \
                   sockets: ask the running agent for these";
    ExplainView { reason: format!("{}; {unknown}", answer.reason), ..answer }
}

/// Answers from the manifests' desired state alone, or asks the running agent.
pub(super) fn run(
    shared: &SharedFlags,
    question: &ConnectionQuestion,
    form: TextFormat,
) -> anyhow::Result<ExitCode> {
    let answers: Vec<_> = if shared.manifests.is_some() {
        let (state, desired) = objects::desired(shared, "explain")?;
        let explain = |destination, from| explain(&desired, destination, from);
        let answers = explained(question, &state, explain).map_err(anyhow::Error::msg)?;
        answers.iter().map(|answer| by_manifests(ExplainView::from(answer))).collect()
    } else {
        status::client(shared)?.explain(question)?
    };
    match &answers[..] {
        [answer] if question.is_one() => output::print(form, answer)?,
        answers => output::print_all(form, answers)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::engine::DesiredState;
    use kube_ipvs_core::explain::Source;
    use kube_ipvs_core::model::{Event, Node, Settings};
    use kube_ipvs_core::state::State;

    use super::*;

    #[test]
    fn explain_names_what_manifests_do_not_contain() {
        let settings = Settings::for_node("n1");
        let (mut state, mut desired) = (State::new("n1".into()), DesiredState::new(&settings));
        state.apply(Event::Node(None::<Node>));
        desired.update(&mut state);
        let to = "192.0.2.2:10250".parse().expect("address");
        let answer = by_manifests(ExplainView::from(&explain(&desired, to, Source::Node)));
        assert!(answer.reason.starts_with("not a service address; manifests"), "{}", answer.reason);
        let known = ExplainView { service: Some("default/web".to_owned()), ..answer };
        assert_eq!(by_manifests(known.clone()), known);
    }
}
