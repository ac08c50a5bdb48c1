//! Checks whether the connection tracking table is large enough.

use super::{Finding, Subject};
use crate::kernel::conntrack::{ConntrackUse, usage};

/// The smallest size that kube-proxy sets. A full table stalls every new connection.
const SMALLEST: u64 = 131_072;

pub(super) fn size(_: &Subject) -> Finding {
    match usage() {
        Some(ConntrackUse { entries, limit }) => judge(entries, limit),
        // The module is not loaded yet: the module check speaks of that.
        None => Finding::ok("not in use yet"),
    }
}

fn judge(count: u64, max: u64) -> Finding {
    // A limit of zero is none at all.
    if max == 0 {
        return Finding::ok(format!("{count} connections, no limit"));
    }
    let found = format!("{count} of {max} entries used");
    let enlarge = |to: u64| {
        [format!(
            "sysctl -w net.netfilter.nf_conntrack_max={to}  # a full table stalls new connections"
        )]
    };
    let doubled = max.saturating_mul(2).max(SMALLEST);
    if count.saturating_mul(100) >= max.saturating_mul(95) {
        Finding::fail(found, enlarge(doubled))
    } else if count.saturating_mul(100) >= max.saturating_mul(75) {
        Finding::warn(found, enlarge(doubled))
    } else if max < SMALLEST {
        Finding::warn(format!("{found}: a small table"), enlarge(SMALLEST))
    } else {
        Finding::ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    #[test]
    fn a_filling_conntrack_table_is_reported() {
        assert_eq!(judge(10, 262_144).verdict, CheckVerdict::Ok);
        assert_eq!(judge(10, 65_536).verdict, CheckVerdict::Warn);
        assert_eq!(judge(200_000, 262_144).verdict, CheckVerdict::Warn);
        assert_eq!(judge(262_000, 262_144).verdict, CheckVerdict::Fail);
        assert_eq!(judge(u64::MAX, u64::MAX).verdict, CheckVerdict::Fail);
        assert_eq!(judge(10, 0).verdict, CheckVerdict::Ok);
        assert!(judge(65_000, 65_536).mend[0].contains("nf_conntrack_max=131072"));
    }
}
