//! Tables of `iptables-legacy`, whose rules cannot be read or changed over netlink.

use std::fmt;
use std::fs;

/// A table of `iptables-legacy` that has ever been used since the node was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LegacyTable {
    command: &'static str,
    name: String,
}

impl LegacyTable {
    /// The command that prints kube-proxy's rules in it, if any.
    pub(crate) fn look(&self) -> String {
        format!("{self} -S | grep -E 'KUBE-(SERVICES|SVC|SEP|NODE)'")
    }

    pub(super) fn advice(&self) -> String {
        let mend = self.mend();
        format!(
            "iptables-legacy is in use; if kube-proxy's rules are in it, run on the node: {mend}"
        )
    }

    /// Removes them and all other rules of Kubernetes, whose owners add them again.
    fn mend(&self) -> String {
        let Self { command, name } = self;
        format!("{command}-save -t {name} | grep -v KUBE- | {command}-restore -T {name}")
    }
}

impl fmt::Display for LegacyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -t {}", self.command, self.name)
    }
}

pub(crate) fn tables() -> Vec<LegacyTable> {
    let read = |path: &str, command: &'static str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let name = |line: &str| LegacyTable { command, name: line.to_owned() };
        text.lines().map(name).collect::<Vec<_>>()
    };
    let mut tables = read("/proc/net/ip_tables_names", "iptables-legacy");
    tables.extend(read("/proc/net/ip6_tables_names", "ip6tables-legacy"));
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_commands() {
        let table = LegacyTable { command: "ip6tables-legacy", name: "nat".to_owned() };
        assert!(table.look().starts_with("ip6tables-legacy -t nat -S |"));
        assert_eq!(
            table.mend(),
            "ip6tables-legacy-save -t nat | grep -v KUBE- | ip6tables-legacy-restore -T nat"
        );
    }
}
