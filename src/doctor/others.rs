//! Checks of what others have in the kernel: firewalls that drop traffic of Services, and objects that
//! kube-proxy or a trace that was killed has left.

use kube_ipvs_core::model::DEVICE;
use netlink_ipvs::{Socket, Subsystem};

use super::{Finding, Subject};
use crate::kernel::firewall::{Obstacle, report};
use crate::kernel::nft::list::{self, ListedChain};
use crate::kernel::nft::trace;
use crate::migrate::{self, is_trace, legacy_looks};

/// The number of chains that are named.
const NAMED: usize = 3;
/// kube-proxy's own clean-up would also delete our virtual servers.
const MEND: &str = "stop kube-proxy, then: kube-ipvs cleanup --kube-proxy";

pub(super) fn firewalls(subject: &Subject) -> Finding {
    match report(&subject.service_ranges, &subject.carry) {
        Ok(None) => Finding::ok("no chain of others drops what services need"),
        Ok(Some(Obstacle { found, mend, is_certain: true })) => Finding::fail(found, mend),
        // Only the author of the other rules knows.
        Ok(Some(Obstacle { found, mut mend, is_certain: false })) => {
            mend.insert(0, "unless a chain that it leads to lets them in:".to_owned());
            Finding::warn(found, mend)
        }
        Err(error) => Finding::unknown(error),
    }
}

/// In its ipvs mode, kube-proxy adds every Service address to this device. The agent adds none.
pub(super) fn device(_: &Subject) -> Finding {
    match migrate::claims() {
        Ok(claims) => judge_device(claims.addresses.len()),
        Err(error) => Finding::unknown(error),
    }
}

fn judge_device(addresses: usize) -> Finding {
    if addresses == 0 {
        return Finding::ok(format!("no address on {DEVICE}"));
    }
    Finding::warn(
        format!(
            "the addresses on {DEVICE} ({addresses}) become the source of this node's own connections"
        ),
        [MEND],
    )
}

pub(super) fn rules(_: &Subject) -> Finding {
    match Socket::open(Subsystem::Netfilter).and_then(|mut socket| list::chains(&mut socket)) {
        Ok(chains) => judge_rules(&chains, legacy_looks()),
        Err(error) => Finding::unknown(error),
    }
}

fn judge_rules(chains: &[ListedChain], legacy: Vec<String>) -> Finding {
    let leftovers: Vec<&ListedChain> = chains.iter().filter(|chain| is_trace(chain)).collect();
    if !leftovers.is_empty() {
        let mut found: Vec<String> =
            leftovers.iter().take(NAMED).map(ToString::to_string).collect();
        if leftovers.len() > NAMED {
            found.push(format!("and {} more chains", leftovers.len() - NAMED));
        }
        return Finding::fail(
            format!("they would translate service addresses before IPVS: {}", found.join(", ")),
            [MEND],
        );
    }
    if !legacy.is_empty() {
        let mut mend = vec!["see that these print nothing, or reboot the node:".to_owned()];
        mend.extend(legacy);
        return Finding::warn("legacy iptables is in use; its rules cannot be read here", mend);
    }
    Finding::ok("none")
}

/// A kernel before 5.12 keeps the table of `kube-ipvs trace` if the command is killed.
pub(super) fn traces(_: &Subject) -> Finding {
    match trace::left() {
        Ok(left) if left.is_empty() => Finding::ok("none"),
        Ok(left) => Finding::warn(
            format!("a trace was killed and has left table {}", left.join(" and ")),
            ["kube-ipvs cleanup, or any `kube-ipvs trace`, deletes it"],
        ),
        Err(error) => Finding::unknown(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;
    use crate::kernel::nft::TableFamily;

    fn chain(name: &str) -> ListedChain {
        let (family, table) = (TableFamily::Ip, "nat".to_owned());
        ListedChain { family, table, name: name.to_owned(), base: None, drops: false }
    }

    #[test]
    fn addresses_on_the_device_change_what_connections_come_from() {
        assert_eq!(judge_device(3).verdict, CheckVerdict::Warn);
        assert_eq!(judge_device(0).verdict, CheckVerdict::Ok);
    }

    #[test]
    fn many_chains_stay_on_one_line() {
        let chains: Vec<ListedChain> = (0..500).map(|n| chain(&format!("KUBE-SVC-{n}"))).collect();
        assert!(judge_rules(&chains, Vec::new()).found.ends_with("and 497 more chains"));
    }
}
