//! Whether the kernel settings are right, or can be made right by the agent.

use super::{Finding, Subject};
use crate::kernel::route::Links;
use crate::kernel::sysctl::{Necessity, Setting, SysctlState, Sysctls};

/// The settings of IPVS.
pub(super) fn ipvs(subject: &Subject) -> Finding {
    judge(&states(subject, |setting| setting.path.starts_with("net/ipv4/vs/")))
}

/// Forwarding between devices, to as many addresses as there are.
pub(super) fn forwarding(subject: &Subject) -> Finding {
    let is_meant = |setting: &Setting| {
        setting.path.contains("forward") || setting.path.starts_with("net/ipv6/route/")
    };
    judge(&states(subject, is_meant))
}

/// Whether packets between ports of a bridge are seen by IPVS.
pub(super) fn bridges(subject: &Subject) -> Finding {
    let states = states(subject, |setting| setting.path.starts_with("net/bridge/"));
    match Links::read() {
        Ok(links) => judge_bridges(&links.bridges(), &states),
        Err(error) => Finding::unknown(error),
    }
}

fn states(subject: &Subject, chosen: impl Fn(&Setting) -> bool) -> Vec<(Setting, SysctlState)> {
    let mut states = Sysctls::default().check(&subject.families());
    states.retain(|(setting, _)| chosen(setting));
    states
}

fn judge(states: &[(Setting, SysctlState)]) -> Finding {
    let mut problems = Vec::new();
    let mut mend = Vec::new();
    let mut by_agent = Vec::new();
    let mut fatal = false;
    for (setting, state) in states {
        let name = short_name(setting);
        match state {
            SysctlState::Right => {}
            SysctlState::Wrong { found, writable: true } => {
                problems.push(format!("{name} is {found}"));
                by_agent.push(setting.assignment());
            }
            SysctlState::Wrong { found, writable: false } => {
                fatal |= setting.need == Necessity::Required;
                problems.push(format!("{name} is {found} and read-only here"));
                mend.push(format!("{}  # on the node: {}", setting.command(), setting.why));
            }
            SysctlState::Missing if setting.need == Necessity::Advised => {}
            SysctlState::Missing => {
                fatal = true;
                problems.push(format!("{name} does not exist"));
                mend.push("modprobe ip_vs".to_owned());
            }
            SysctlState::Unreadable(cause) => {
                problems.push(format!("{name} cannot be read: {cause}"));
                mend.push(setting.command());
            }
        }
    }
    mend.dedup();
    if !by_agent.is_empty() {
        mend.push(format!("start the agent, or: sysctl -w {}", by_agent.join(" ")));
    }
    if problems.is_empty() {
        let right = states.iter().filter(|(_, state)| *state == SysctlState::Right);
        let names: Vec<String> =
            right.map(|(s, _)| format!("{}={}", short_name(s), s.wanted)).collect();
        return Finding::ok(names.join(" "));
    }
    let found = problems.join(", ");
    if fatal { Finding::fail(found, mend) } else { Finding::warn(found, mend) }
}

/// The name of a setting without what the check's own name says already.
fn short_name(setting: &Setting) -> String {
    let prefixes = ["net/ipv4/vs/", "net/bridge/", "net/"];
    let short = prefixes.iter().find_map(|prefix| setting.path.strip_prefix(prefix));
    short.unwrap_or(setting.path).replace('/', ".")
}

fn judge_bridges(bridges: &[String], states: &[(Setting, SysctlState)]) -> Finding {
    if bridges.is_empty() {
        return Finding::ok("no bridge");
    }
    let bridges = bridges.join(" ");
    if states.iter().all(|(_, state)| *state == SysctlState::Missing) {
        return Finding::warn(
            format!("br_netfilter is not loaded, and there is a bridge: {bridges}"),
            [
                "if pods are on that bridge, a pod would get replies from a pod on the same bridge past IPVS:"
                    .to_owned(),
                "modprobe br_netfilter  # on the node, and at every boot: /etc/modules-load.d".to_owned(),
            ],
        );
    }
    let mut finding = judge(states);
    finding.found = format!("{bridges}: {}", finding.found);
    finding
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;
    use crate::kernel::sysctl::SETTINGS;

    fn setting(path: &str) -> Setting {
        SETTINGS.into_iter().find(|s| s.path == path).unwrap_or(SETTINGS[0])
    }

    fn wrong(writable: bool) -> SysctlState {
        SysctlState::Wrong { found: "0".to_owned(), writable }
    }

    #[test]
    fn what_the_agent_will_set_is_a_warning() {
        let forward = setting("net/ipv4/ip_forward");
        let forward6 = setting("net/ipv6/conf/all/forwarding");
        assert_eq!(judge(&[(forward, SysctlState::Right)]), Finding::ok("ipv4.ip_forward=1"));
        assert_eq!(judge(&[(forward, wrong(true))]).verdict, CheckVerdict::Warn);
        assert_eq!(judge(&[(forward6, wrong(false))]).verdict, CheckVerdict::Warn);
        let failed = judge(&[(forward6, SysctlState::Right), (forward, wrong(false))]);
        assert_eq!(failed.verdict, CheckVerdict::Fail);
        assert!(failed.mend[0].starts_with("sysctl -w net.ipv4.ip_forward=1"));
    }

    #[test]
    fn a_bridge_needs_br_netfilter() {
        let call = setting("net/bridge/bridge-nf-call-iptables");
        let cni = ["cni0".to_owned()];
        assert_eq!(judge_bridges(&[], &[(call, SysctlState::Missing)]).verdict, CheckVerdict::Ok);
        assert_eq!(
            judge_bridges(&cni, &[(call, SysctlState::Missing)]).verdict,
            CheckVerdict::Warn
        );
        assert_eq!(judge_bridges(&cni, &[(call, wrong(true))]).verdict, CheckVerdict::Warn);
        let good = judge_bridges(&cni, &[(call, SysctlState::Right)]);
        assert_eq!(good, Finding::ok("cni0: bridge-nf-call-iptables=1"));
    }
}
