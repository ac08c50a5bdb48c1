//! The settings, as data.

use kube_ipvs_core::model::Family;

/// What it means when a setting has another value and cannot be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Necessity {
    /// Services do not work without it.
    Required,
    /// Some flows do not; and where the file is missing, the setting does not matter.
    Advised,
}

/// A setting with the value that services need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Path below `/proc/sys`.
    pub path: &'static str,
    /// The value that it must have.
    pub wanted: &'static str,
    /// Whether services work at all without it.
    pub need: Necessity,
    /// The family that it is for; `None` for both.
    pub family: Option<Family>,
    /// What goes wrong without it.
    pub why: &'static str,
}

/// Every setting that this program looks after; what is not listed is left alone.
pub const SETTINGS: [Setting; 9] = [
    Setting {
        path: "net/ipv4/vs/conntrack",
        wanted: "1",
        need: Necessity::Required,
        family: None,
        why: "masquerading is decided by the connection's original destination",
    },
    Setting {
        path: "net/ipv4/vs/expire_nodest_conn",
        wanted: "1",
        need: Necessity::Required,
        family: None,
        why: "connections to a deleted endpoint would hang instead of ending or moving",
    },
    Setting {
        path: "net/ipv4/vs/expire_quiescent_template",
        wanted: "1",
        need: Necessity::Required,
        family: None,
        why: "session affinity would hold clients on an endpoint that is being drained",
    },
    Setting {
        path: "net/ipv4/vs/conn_reuse_mode",
        wanted: "1",
        need: Necessity::Required,
        family: None,
        why: "a reused source port would be sent to the endpoint of the former connection",
    },
    Setting {
        path: "net/ipv4/ip_forward",
        wanted: "1",
        need: Necessity::Required,
        family: Some(Family::V4),
        why: "endpoints on other nodes and clients outside would not be reached",
    },
    Setting {
        path: "net/ipv6/conf/all/forwarding",
        wanted: "1",
        need: Necessity::Advised,
        family: Some(Family::V6),
        why: "IPv6 endpoints on other nodes and IPv6 clients outside would not be reached",
    },
    // What kernels have by default that count no routes.
    Setting {
        path: "net/ipv6/route/max_size",
        wanted: "2147483647",
        need: Necessity::Advised,
        family: Some(Family::V6),
        why: "a kernel before 6.3 may reach no more IPv6 addresses than that, divided by processors",
    },
    Setting {
        path: "net/bridge/bridge-nf-call-iptables",
        wanted: "1",
        need: Necessity::Advised,
        family: Some(Family::V4),
        why: "replies between pods on one bridge would bypass IPVS and carry the wrong source",
    },
    Setting {
        path: "net/bridge/bridge-nf-call-ip6tables",
        wanted: "1",
        need: Necessity::Advised,
        family: Some(Family::V6),
        why: "IPv6 replies between pods on one bridge would bypass IPVS",
    },
];

impl Setting {
    /// The settings that services of the given families need. Those of a family without services
    /// are left alone: IPv6 forwarding, for one, makes the kernel ignore router advertisements on
    /// devices whose `accept_ra` is not 2.
    pub fn of(families: &[Family]) -> impl Iterator<Item = Self> {
        SETTINGS.into_iter().filter(move |s| s.family.is_none_or(|f| families.contains(&f)))
    }

    /// The name that `sysctl` takes.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.replace('/', ".")
    }

    /// Name and value as `sysctl -w` and `/etc/sysctl.d` take them.
    #[must_use]
    pub fn assignment(&self) -> String {
        format!("{}={}", self.name(), self.wanted)
    }

    /// The command that sets it.
    #[must_use]
    pub fn command(&self) -> String {
        format!("sysctl -w {}", self.assignment())
    }
}
