//! Changes to a host that are taken back, however a case ends.

use std::fs;
use std::io;
use std::sync::Arc;

use super::namespace::Namespace;

/// A change to a host; taken back when this is dropped.
pub(crate) struct Temporary {
    namespace: Arc<Namespace>,
    undo: Undo,
}

enum Undo {
    /// Commands of `nft`, one a line.
    Nft(String),
    Ip(String),
    Sysctl(Vec<String>),
}

impl Temporary {
    /// Makes a table of nf_tables: `rules` are what stands between its braces.
    pub(crate) fn table(namespace: &Arc<Namespace>, name: &str, rules: &str) -> io::Result<Self> {
        // Half a table would be left, but for the one transaction that `nft` makes of it.
        namespace.nft(&format!("table {name} {{\n{rules}\n}}\n"))?;
        Ok(Self::undone_by(namespace, Undo::Nft(format!("delete table {name}"))))
    }

    /// Gives rules to `iptables-restore` and `ip6tables-restore`, in their tables `filter` and `nat`.
    pub(crate) fn iptables(namespace: &Arc<Namespace>, v4: &str, v6: &str) -> io::Result<Self> {
        let tables = ["ip filter", "ip6 filter", "ip nat", "ip6 nat"];
        let undo = tables.map(|table| format!("delete table {table}\n")).concat();
        let temporary = Self::undone_by(namespace, Undo::Nft(undo));
        namespace.iptables("iptables-nft-restore", v4)?;
        namespace.iptables("ip6tables-nft-restore", v6)?;
        Ok(temporary)
    }

    /// Gives lines to `ip -batch`, and others in the end.
    pub(crate) fn ip(namespace: &Arc<Namespace>, lines: &str, undo: &str) -> io::Result<Self> {
        // Made first: should a line fail, those before it are taken back.
        let temporary = Self::undone_by(namespace, Undo::Ip(undo.to_owned()));
        namespace.ip(lines)?;
        Ok(temporary)
    }

    /// Writes sysctls, given as `net.ipv4.ip_forward=1`.
    pub(crate) fn sysctl(namespace: &Arc<Namespace>, settings: &[&str]) -> io::Result<Self> {
        let before: io::Result<Vec<String>> =
            namespace.inside(|| settings.iter().map(|setting| current(setting)).collect());
        let temporary = Self::undone_by(namespace, Undo::Sysctl(before?));
        namespace.sysctl(settings)?;
        Ok(temporary)
    }

    fn undone_by(namespace: &Arc<Namespace>, undo: Undo) -> Self {
        Self { namespace: Arc::clone(namespace), undo }
    }
}

/// The setting as it is now.
fn current(setting: &str) -> io::Result<String> {
    let (key, _) = setting.split_once('=').expect("KEY=VALUE");
    let value = fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/")))?;
    Ok(format!("{key}={}", value.trim()))
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = match &self.undo {
            // Line by line: what one cannot take back is no reason to leave the others.
            Undo::Nft(lines) => lines.lines().try_for_each(|line| {
                let _ = self.namespace.nft(line);
                Ok(())
            }),
            Undo::Ip(lines) => lines.lines().try_for_each(|line| {
                let _ = self.namespace.ip(line);
                Ok(())
            }),
            Undo::Sysctl(settings) => {
                let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
                self.namespace.sysctl(&settings)
            }
        };
    }
}
