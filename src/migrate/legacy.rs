//! Tables of `iptables-legacy`, whose rules cannot be read or changed over netlink.

use std::fs;

/// Returns the commands that print kube-proxy's rules, for each table that has been used since the
/// node was started.
pub(crate) fn looks() -> Vec<String> {
    tables().iter().map(|(command, table)| look(command, table)).collect()
}

/// Returns the advice for each table that has been used since the node was started.
pub(super) fn advice() -> Vec<String> {
    let mend = tables().into_iter().map(|(command, table)| mend(command, &table));
    let advice = |mend| {
        format!(
            "iptables-legacy is in use; if kube-proxy's rules are in it, run on the node: {mend}"
        )
    };
    mend.map(advice).collect()
}

fn look(command: &str, table: &str) -> String {
    format!("{command} -t {table} -S | grep -E 'KUBE-(SERVICES|SVC|SEP|NODE)'")
}

/// Returns the command that removes these and all other rules of Kubernetes, whose owners add them
/// again.
fn mend(command: &str, table: &str) -> String {
    format!("{command}-save -t {table} | grep -v KUBE- | {command}-restore -T {table}")
}

/// Lists each table with the command for it.
fn tables() -> Vec<(&'static str, String)> {
    let read = |path: &str, command: &'static str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|name| (command, name.to_owned())).collect::<Vec<_>>()
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
        assert!(look("ip6tables-legacy", "nat").starts_with("ip6tables-legacy -t nat -S |"));
        assert_eq!(
            mend("ip6tables-legacy", "nat"),
            "ip6tables-legacy-save -t nat | grep -v KUBE- | ip6tables-legacy-restore -T nat"
        );
    }
}
