//! Checks whether the kernel assigns node ports to processes of the node.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Finding, Subject};
use crate::kernel::nft::Nft;
use crate::kernel::sysctl;

/// The ports that the kernel assigns, of both families.
const RANGE: &str = "net/ipv4/ip_local_port_range";
/// The ports in that range that the kernel does not assign.
const RESERVED: &str = "net/ipv4/ip_local_reserved_ports";

pub(super) fn apart_from_node_ports(_: &Subject) -> Finding {
    let node_ports = match Nft::open().and_then(|mut nft| nft.observe()) {
        Ok(observed) => {
            let frontends = observed.elements.iter().filter_map(|element| element.frontend());
            let node_ports = frontends.filter(|frontend| frontend.ip.is_unspecified());
            node_ports.map(|frontend| frontend.port).collect()
        }
        Err(error) => return Finding::unknown(error),
    };
    let text = |path| sysctl::read(sysctl::ROOT, path).unwrap_or_default();
    match ports(&text(RANGE)) {
        Some(chosen) => judge(&chosen, &text(RESERVED), &node_ports),
        None => Finding::unknown(format!("{RANGE} is no range of ports")),
    }
}

fn judge(chosen: &RangeInclusive<u16>, reserved: &str, node_ports: &BTreeSet<u16>) -> Finding {
    let kept: Vec<_> = reserved.split(',').filter_map(ports).collect();
    let is_kept = |port: &u16| kept.iter().any(|ports| ports.contains(port));
    let mut shared = node_ports.iter().filter(|port| chosen.contains(port) && !is_kept(port));
    let Some(first) = shared.next() else {
        return Finding::ok("none is a node port");
    };
    let (low, high) = (chosen.start(), chosen.end());
    let found = format!(
        "node ports ({}), such as {first}, are among those that the kernel gives to processes of the node \
         ({low}-{high}): one that listens at such a port is not reached",
        1 + shared.count()
    );
    let reserved = reserved.trim().split(',').filter(|ports| !ports.is_empty()).map(str::to_owned);
    let all: Vec<_> = reserved.chain(node_ports.iter().map(ToString::to_string)).collect();
    Finding::warn(found, [format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", all.join(","))])
}

/// Reads `low high` or `low-high` or one port.
fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut bounds = text.split(['-', '\t', ' ']).filter(|bound| !bound.is_empty());
    let low = bounds.next()?.trim().parse().ok()?;
    let high = bounds.next().map_or(Some(low), |high| high.trim().parse().ok())?;
    Some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn node_ports_in_the_local_port_range_are_reported() {
        let node_ports = [30_080, 31_000].into();
        let usual = ports("32768\t60999\n").expect("a range");
        assert_eq!(judge(&usual, "", &node_ports).verdict, CheckVerdict::Ok);
        let wide = ports("1024\t65535").expect("a range");
        let found = judge(&wide, "8080\n", &node_ports);
        assert_eq!(found.verdict, CheckVerdict::Warn);
        assert!(found.found.starts_with("node ports (2), such as 30080,"), "{}", found.found);
        assert!(found.mend[0].ends_with("=8080,30080,31000"), "{}", found.mend[0]);
        assert_eq!(judge(&wide, "30000-32767", &node_ports).verdict, CheckVerdict::Ok);
        assert_eq!(judge(&wide, "30080", &node_ports).verdict, CheckVerdict::Warn);
    }
}
