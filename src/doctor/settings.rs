//! Checks whether the kernel settings are right, or the agent can set them.

use super::{Finding, Subject};
use crate::kernel::route::links;
use crate::kernel::sysctl::{self, Necessity, Sysctl, SysctlReport, SysctlState};

pub(super) fn ipvs(subject: &Subject) -> Finding {
    judge(&reports(subject, |sysctl| sysctl.path.starts_with("net/ipv4/vs/")))
}

/// Forwarding between devices, and the number of addresses that can be reached.
pub(super) fn forwarding(subject: &Subject) -> Finding {
    let is_meant = |sysctl: &Sysctl| {
        sysctl.path.contains("forward") || sysctl.path.starts_with("net/ipv6/route/")
    };
    judge(&reports(subject, is_meant))
}

/// Checks whether IPVS sees packets between ports of a bridge.
pub(super) fn bridges(subject: &Subject) -> Finding {
    let reports = reports(subject, |sysctl| sysctl.path.starts_with("net/bridge/"));
    match links::bridges() {
        Ok(bridges) => judge_bridges(&bridges, &reports),
        Err(error) => Finding::unknown(error),
    }
}

fn reports(subject: &Subject, is_meant: impl Fn(&Sysctl) -> bool) -> Vec<SysctlReport> {
    let families = subject.families();
    let needed = Sysctl::needed(&families).filter(is_meant);
    needed.map(|sysctl| sysctl::check(sysctl::ROOT, sysctl)).collect()
}

fn judge(reports: &[SysctlReport]) -> Finding {
    let mut problems = Vec::new();
    let mut mend = Vec::new();
    let mut by_agent = Vec::new();
    let mut fatal = false;
    for SysctlReport { sysctl, state } in reports {
        let name = short_name(sysctl);
        match state {
            SysctlState::Right | SysctlState::Set { .. } => {}
            SysctlState::Wrong { found, refusal: None } => {
                problems.push(format!("{name} is {found}"));
                by_agent.push(sysctl.assignment());
            }
            SysctlState::Wrong { found, refusal: Some(_) } => {
                fatal |= sysctl.need == Necessity::Required;
                problems.push(format!("{name} is {found} and read-only here"));
                mend.push(format!("{}  # on the node: {}", sysctl.command(), sysctl.why));
            }
            SysctlState::Missing if sysctl.need == Necessity::Advised => {}
            SysctlState::Missing => {
                fatal = true;
                problems.push(format!("{name} does not exist"));
                mend.push("modprobe ip_vs".to_owned());
            }
            SysctlState::Unreadable(cause) => {
                problems.push(format!("{name} cannot be read: {cause}"));
                mend.push(sysctl.command());
            }
        }
    }
    mend.dedup();
    if !by_agent.is_empty() {
        mend.push(format!("start the agent, or: sysctl -w {}", by_agent.join(" ")));
    }
    if problems.is_empty() {
        let right = reports.iter().filter(|report| report.state == SysctlState::Right);
        let sysctls = right.map(|report| report.sysctl);
        let names: Vec<_> = sysctls.map(|it| format!("{}={}", short_name(&it), it.value)).collect();
        return Finding::ok(names.join(" "));
    }
    let found = problems.join(", ");
    if fatal { Finding::fail(found, mend) } else { Finding::warn(found, mend) }
}

/// Returns the name of a setting without the prefix that the name of the check implies.
fn short_name(sysctl: &Sysctl) -> String {
    let prefixes = ["net/ipv4/vs/", "net/bridge/", "net/"];
    let short = prefixes.iter().find_map(|prefix| sysctl.path.strip_prefix(prefix));
    short.unwrap_or(sysctl.path).replace('/', ".")
}

fn judge_bridges(bridges: &[String], reports: &[SysctlReport]) -> Finding {
    if bridges.is_empty() {
        return Finding::ok("no bridge");
    }
    let bridges = bridges.join(" ");
    if reports.iter().all(|report| report.state == SysctlState::Missing) {
        return Finding::warn(
            format!("br_netfilter is not loaded, and there is a bridge: {bridges}"),
            [
                "if pods are on that bridge, a pod would get replies from a pod on the same bridge past IPVS:",
                "modprobe br_netfilter  # on the node, and at every boot: /etc/modules-load.d",
            ],
        );
    }
    let mut finding = judge(reports);
    finding.found = format!("{bridges}: {}", finding.found);
    finding
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;
    use crate::kernel::sysctl::NEEDED;

    fn report(path: &str, state: SysctlState) -> SysctlReport {
        let sysctl = NEEDED.into_iter().find(|it| it.path == path).unwrap_or(NEEDED[0]);
        SysctlReport { sysctl, state }
    }

    fn wrong(is_writable: bool) -> SysctlState {
        let refusal = (!is_writable).then(|| "Read-only file system".to_owned());
        SysctlState::Wrong { found: "0".to_owned(), refusal }
    }

    #[test]
    fn what_the_agent_will_set_is_a_warning() {
        let forward = |state| report("net/ipv4/ip_forward", state);
        let forward6 = |state| report("net/ipv6/conf/all/forwarding", state);
        assert_eq!(judge(&[forward(SysctlState::Right)]), Finding::ok("ipv4.ip_forward=1"));
        assert_eq!(judge(&[forward(wrong(true))]).verdict, CheckVerdict::Warn);
        assert_eq!(judge(&[forward6(wrong(false))]).verdict, CheckVerdict::Warn);
        let failed = judge(&[forward6(SysctlState::Right), forward(wrong(false))]);
        assert_eq!(failed.verdict, CheckVerdict::Fail);
        assert!(failed.mend[0].starts_with("sysctl -w net.ipv4.ip_forward=1"));
    }

    #[test]
    fn a_bridge_needs_br_netfilter() {
        let call = |state| [report("net/bridge/bridge-nf-call-iptables", state)];
        let cni = ["cni0".to_owned()];
        assert_eq!(judge_bridges(&[], &call(SysctlState::Missing)).verdict, CheckVerdict::Ok);
        assert_eq!(judge_bridges(&cni, &call(SysctlState::Missing)).verdict, CheckVerdict::Warn);
        assert_eq!(judge_bridges(&cni, &call(wrong(true))).verdict, CheckVerdict::Warn);
        let good = judge_bridges(&cni, &call(SysctlState::Right));
        assert_eq!(good, Finding::ok("cni0: bridge-nf-call-iptables=1"));
    }
}
