//! What the agent needs and does not get: one clear line, and an exit status.

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::lab::Finished;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("without_the_capability", |t| {
            t.agent().stop()?;
            t.run_to_end("cleanup", &[])?;
            let ended = t.agent().run_under(&["setpriv", "--bounding-set=-net_admin"])?;
            one_clear_line(t, &ended, "NET_ADMIN")
        }),
        case("an_unknown_option", |t| {
            let ended = t.agent().bare_command(&["run", "--no-such-option"])?;
            t.exits_with("an unknown option", 2, &ended)?;
            t.check("names it", ended.stderr.contains("--no-such-option"), &ended.stderr)
        }),
    ]
}

/// The first line on standard error names what is missing; the exit status is 1.
fn one_clear_line(t: &TestContext<'_>, ended: &Finished, what: &str) -> Step {
    t.exits_with("the agent", 1, ended)?;
    let mut errors = ended.stderr.lines().filter(|line| line.starts_with("kube-ipvs: "));
    let line = errors.next().unwrap_or_default();
    t.check(&format!("an error that names {what}"), line.contains(what), &ended.stderr)
}
