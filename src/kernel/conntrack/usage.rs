//! How full the connection tracking table is.

use crate::kernel::sysctl;

const COUNT: &str = "net/netfilter/nf_conntrack_count";
const MAX: &str = "net/netfilter/nf_conntrack_max";

/// The entries in use, and the most that there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConntrackUse {
    pub entries: u64,
    /// 0 for no limit.
    pub limit: u64,
}

/// Reads two kernel settings; `None` while connection tracking is not loaded.
#[must_use]
pub fn usage() -> Option<ConntrackUse> {
    let number = |path| sysctl::read(sysctl::ROOT, path).ok()?.parse().ok();
    Some(ConntrackUse { entries: number(COUNT)?, limit: number(MAX)? })
}
