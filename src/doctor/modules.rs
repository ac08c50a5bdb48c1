//! Checks the kernel modules.

use std::fs;

use super::{CheckVerdict, Finding, Subject};
use crate::kernel::modules::{self, Module, Modules, Presence};

/// The number of Services that are named.
const NAMED: usize = 3;

pub(super) fn needed(subject: &Subject) -> Finding {
    check(modules::needed(subject.scheduler, &subject.carry))
}

/// A scheduler that is missing costs no traffic: the configured scheduler serves.
pub(super) fn schedulers(subject: &Subject) -> Finding {
    let asked = asked(subject);
    if asked.is_empty() {
        return Finding::ok(format!("every Service uses {}", subject.scheduler));
    }
    served_otherwise(check(asked), subject)
}

/// Returns the modules of the schedulers that options ask for.
fn asked(subject: &Subject) -> Vec<Module> {
    let others = subject.asked_schedulers.iter().filter(|(it, _)| **it != subject.scheduler);
    let module = others.map(|(scheduler, by)| {
        let mut names: Vec<_> = by.iter().take(NAMED).cloned().collect();
        if by.len() > NAMED {
            names.push(format!("{} more", by.len() - NAMED));
        }
        Module::of_scheduler(*scheduler, names.join(", "))
    });
    module.collect()
}

fn served_otherwise(finding: Finding, subject: &Subject) -> Finding {
    match finding.verdict {
        CheckVerdict::Ok => finding,
        CheckVerdict::Warn | CheckVerdict::Fail => {
            let found = format!("{}; without them {} serves", finding.found, subject.scheduler);
            Finding::warn(found, finding.mend)
        }
    }
}

fn check(needed: Vec<Module>) -> Finding {
    match Modules::read() {
        Ok(modules) => {
            let found = needed.into_iter().map(|module| (modules.presence(&module), module));
            judge(found.collect(), may_load())
        }
        Err(error) => Finding::unknown(format!("/proc/modules: {error}")),
    }
}

/// Returns whether the kernel may load modules at their first use: `kernel.modprobe` names the
/// program that loads them.
fn may_load() -> bool {
    let setting = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    // A kernel without this setting has all modules built in, or the setting is hidden.
    setting("modprobe").map_or(true, |path| !path.trim().is_empty())
        && setting("modules_disabled").map_or(true, |disabled| disabled.trim() == "0")
}

fn judge(modules: Vec<(Presence, Module)>, may_load: bool) -> Finding {
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
    let loadable = at(Presence::Loadable);
    if loadable.is_empty() {
        return Finding::ok(format!("all {total} in the kernel"));
    }
    if !may_load {
        let mend = vec![
            "the kernel may load none by itself (kernel.modprobe, kernel.modules_disabled); write these \
             to /etc/modules-load.d/kube-ipvs.conf, each on a line, and reboot the node:"
                .to_owned(),
            names(&loadable),
        ];
        return Finding::fail(format!("not loaded: {}", names(&loadable)), mend);
    }
    Finding::ok(format!(
        "{} in the kernel, {} more that it loads at first use",
        total - loadable.len(),
        loadable.len()
    ))
}

#[cfg(test)]
mod tests {
    use kube_ipvs_core::model::Scheduler;

    use super::*;

    fn found(presences: &[Presence]) -> Finding {
        let module = |p: &Presence| {
            (*p, Module { name: format!("{p:?}").to_lowercase(), purpose: "balancing".into() })
        };
        judge(presences.iter().map(module).collect(), true)
    }

    #[test]
    fn a_kernel_that_may_load_nothing_needs_all_at_boot() {
        let dummy = Module { name: "dummy".to_owned(), purpose: "service addresses".into() };
        let found = judge(vec![(Presence::Loadable, dummy)], false);
        assert_eq!((found.verdict, &*found.mend[1]), (CheckVerdict::Fail, "dummy"));
    }

    #[test]
    fn a_missing_scheduler_is_named_with_the_services_that_ask_for_it() {
        let services: Vec<_> = (1..=5).map(|n| format!("default/cache-{n}")).collect();
        let asked_schedulers = [
            (Scheduler::Rr, ["default/plain".to_owned()].into()),
            (Scheduler::Mh, services.into_iter().collect()),
        ];
        let subject = Subject { asked_schedulers: asked_schedulers.into(), ..Subject::default() };
        let modules = asked(&subject).into_iter().map(|module| (Presence::Missing, module));
        let finding = served_otherwise(judge(modules.collect(), true), &subject);
        assert_eq!(finding.verdict, CheckVerdict::Warn);
        assert_eq!(finding.found, "missing: ip_vs_mh; without them rr serves");
        let named = "default/cache-1, default/cache-2, default/cache-3, 2 more";
        assert_eq!(finding.mend[1], format!("modprobe ip_vs_mh  # for {named}"));
    }

    #[test]
    fn missing_outweighs_unknown_outweighs_loadable() {
        use Presence::{Loadable, Missing, Running, Unknown};
        assert_eq!(found(&[Running, Loadable]).verdict, CheckVerdict::Ok);
        assert_eq!(found(&[Running, Loadable, Unknown]).verdict, CheckVerdict::Warn);
        let failed = found(&[Running, Unknown, Missing]);
        assert_eq!(failed.verdict, CheckVerdict::Fail);
        assert_eq!(failed.mend[1], "modprobe missing  # for balancing");
    }
}
