//! Whether the kernel modules are there.

use super::{Finding, Subject};
use crate::kernel::modules::{self, Module, Modules, Presence};

/// Looks for every module that the configured schedulers, rules and routes need.
pub(super) fn needed(subject: &Subject) -> Finding {
    match Modules::read() {
        Ok(modules) => {
            let needed = modules::needed(&subject.schedulers, &subject.carry);
            judge(needed.into_iter().map(|module| (modules.presence(&module), module)).collect())
        }
        Err(error) => Finding::unknown(format!("/proc/modules: {error}")),
    }
}

fn judge(modules: Vec<(Presence, Module)>) -> Finding {
    let total = modules.len();
    let at = |presence: Presence| -> Vec<&Module> {
        modules.iter().filter(|(p, _)| *p == presence).map(|(_, module)| module).collect()
    };
    let commands = |modules: &[&Module]| -> Vec<String> {
        modules.iter().map(|m| format!("{}  # for {}", m.command(), m.purpose)).collect()
    };
    let names = |modules: &[&Module]| -> String {
        modules.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let missing = at(Presence::Missing);
    if !missing.is_empty() {
        let mut mend = vec!["install the kernel's module package, then, on the node:".to_owned()];
        mend.extend(commands(&missing));
        return Finding::fail(format!("missing: {}", names(&missing)), mend);
    }
    let unknown = at(Presence::Unknown);
    if !unknown.is_empty() {
        let mut mend = vec![
            "the kernel loads them at first use if the node has them; to see, run on the node:"
                .to_owned(),
        ];
        mend.extend(commands(&unknown));
        let found = format!("not loaded, and /lib/modules is not visible: {}", names(&unknown));
        return Finding::warn(found, mend);
    }
    match at(Presence::Loadable).len() {
        0 => Finding::ok(format!("all {total} in the kernel")),
        loadable => Finding::ok(format!(
            "{} in the kernel, {loadable} more that it loads at first use",
            total - loadable
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn found(presences: &[Presence]) -> Finding {
        let module = |p: &Presence| {
            (*p, Module { name: format!("{p:?}").to_lowercase(), purpose: "balancing" })
        };
        judge(presences.iter().map(module).collect())
    }

    #[test]
    fn missing_outweighs_unknown_outweighs_loadable() {
        use Presence::{Loadable, Missing, Running, Unknown};
        assert_eq!(found(&[Running, Loadable]).verdict, Verdict::Ok);
        assert_eq!(found(&[Running, Loadable, Unknown]).verdict, Verdict::Warn);
        let failed = found(&[Running, Unknown, Missing]);
        assert_eq!(failed.verdict, Verdict::Fail);
        assert_eq!(failed.mend[1], "modprobe missing  # for balancing");
    }
}
