//! What kube-proxy does by a configuration, and this program does not, or does otherwise.

use super::document::Origin;
use super::resolve::{Resolver, node_names};
use super::{ConfigError, SharedFlags};

/// A difference that may take something from an operator who comes from kube-proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The option, and what is different.
    pub what: String,
    /// What to do if it is missed.
    pub instead: &'static str,
}

const UNUSED: &str = "keep it for the way back to kube-proxy, or leave it out";

/// Returns the differences that follow from what was given. Those that any configuration has are in
/// `docs/migrate-from-kube-proxy.md`.
///
/// # Errors
///
/// As [`resolve`](super::resolve::resolve).
pub fn differences(flags: &SharedFlags) -> Result<Vec<Difference>, ConfigError> {
    of(Resolver::new(flags, node_names())?)
}

pub(super) fn of(resolver: Resolver<'_>) -> Result<Vec<Difference>, ConfigError> {
    let given = &resolver.given;
    let of_field = |field: &str, what: &str, instead| Difference {
        what: format!("{}: {what}", given.origin(field).name(field)),
        instead,
    };
    // A kubeconfig alone is no configuration of kube-proxy's.
    let is_kube_proxys = match given.kube_proxy {
        Origin::Nowhere => false,
        Origin::Flags => given.values.keys().any(|field| *field != "clientConnection.kubeconfig"),
        Origin::Document { .. } => true,
    };
    let mut found = Vec::new();
    if is_kube_proxys && matches!(resolver.text("mode"), "" | "iptables") {
        found.push(of_field(
            "mode",
            "node ports at 127.0.0.1 are not served; kube-proxy's mode iptables, its default, serves \
             them unless iptables.localhostNodePorts is false",
            "connect to an address of the node, or to the ClusterIP",
        ));
    }
    if given.values.get("ipvs.strictARP").is_some_and(|value| value == true) {
        found.push(of_field(
            "ipvs.strictARP",
            "arp_ignore and arp_announce stay as they are; no ARP request for a Service address is \
             answered in any case",
            "if the network needs it: sysctl -w net.ipv4.conf.all.arp_announce=2  # and in /etc/sysctl.d",
        ));
    }
    let address = resolver.text("bindAddress").trim_matches(['[', ']']);
    if !matches!(address, "" | "0.0.0.0" | "::") {
        found.push(of_field(
            "bindAddress",
            "only its family counts; kube-proxy also takes it for the node's address",
            "give nodePortAddresses, healthzBindAddress and metricsBindAddress as they should be",
        ));
    }
    let warnings = resolver.config()?.warnings.into_iter();
    found.extend(warnings.map(|what| Difference { what, instead: UNUSED }));
    Ok(found)
}
