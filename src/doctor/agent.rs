//! The checks of what the agent has or says: its configuration, and the data path by its canary.

use std::fmt;

use super::{CANARY, CheckResult, Finding, Subject};
use crate::config::Difference;

/// Returns what the agent's canary says, unless all is well.
#[must_use]
pub fn complaint_of_canary(failing: &[String], impossible: &[String]) -> Option<CheckResult> {
    let finding = match (failing, impossible) {
        ([], []) => return None,
        ([], impossible) => Finding::warn(
            format!("the data path is not probed: {}", impossible.join("; ")),
            ["give the agent what is missing, or set canary: false"],
        ),
        (failing, _) => Finding::fail(
            failing.join("; "),
            [
                "look for rules of other programs with `nft list ruleset`, and for failed operations with \
                 `kube-ipvs status`",
            ],
        ),
    };
    Some(CheckResult { check: CANARY.to_owned(), finding })
}

/// Returns the finding of a running agent by the checks that it reports.
#[must_use]
pub fn canary_of_agent(reported: Result<Vec<CheckResult>, impl fmt::Display>) -> Finding {
    match reported {
        Ok(checks) => checks
            .into_iter()
            .find(|result| result.check == CANARY)
            .map_or_else(|| Finding::ok("the agent's probes are answered"), |it| it.finding),
        Err(error) => Finding::warn(
            format!("the agent does not say: {error}"),
            ["start the agent, and run this where its metricsBindAddress is reached"],
        ),
    }
}

pub(super) fn data_path(subject: &Subject) -> Finding {
    subject.canary.clone().unwrap_or_else(|| Finding::ok("not probed: option canary is off"))
}

/// What the configuration has with kube-proxy alone.
pub(super) fn differences(subject: &Subject) -> Finding {
    if subject.differences.is_empty() {
        return Finding::ok("every option that is set has its effect");
    }
    let told = |it: &Difference| format!("{}; {}", it.what, it.instead);
    Finding::warn(
        format!("differences from kube-proxy: {}", subject.differences.len()),
        subject.differences.iter().map(told),
    )
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn the_agents_complaint_is_the_finding() {
        let text = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let found = |failing: &[&str], impossible: &[&str]| {
            let complaint = complaint_of_canary(&text(failing), &text(impossible));
            let finding = canary_of_agent(Ok::<_, String>(complaint.into_iter().collect()));
            (finding.verdict, finding.found)
        };
        assert_eq!(found(&[], &[]).0, CheckVerdict::Ok);
        assert_eq!(found(&["lost"], &["no tun"]), (CheckVerdict::Fail, "lost".to_owned()));
        let (verdict, text) = found(&[], &["no tun"]);
        assert_eq!((verdict, &*text), (CheckVerdict::Warn, "the data path is not probed: no tun"));
        assert_eq!(canary_of_agent(Err("no answer")).verdict, CheckVerdict::Warn);
        assert_eq!(data_path(&Subject::default()).verdict, CheckVerdict::Ok);
    }

    #[test]
    fn each_difference_is_named_with_what_to_do() {
        assert_eq!(differences(&Subject::default()).verdict, CheckVerdict::Ok);
        let of = |what: &str, instead| Difference { what: what.to_owned(), instead };
        let all = vec![of("mode: no localhost", "use the ClusterIP"), of("a: ignored", "go on")];
        let found = differences(&Subject { differences: all, ..Subject::default() });
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert_eq!(found.mend, ["mode: no localhost; use the ClusterIP", "a: ignored; go on"]);
    }
}
