//! kube-proxy's sets, over the netlink of `ipset`.

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use kube_ipvs_core::model::{Family, Protocol};
use netlink_ipvs::{Attribute, Attributes, Batch, KernelError, Socket, attributes};
use rustix::io::Errno;

use super::names;
use crate::kernel::family::{self, netfilter_header, netfilter_message};

/// `NFNL_SUBSYS_IPSET`
const SUBSYSTEM: u16 = 6;
/// `IPSET_PROTOCOL_MIN`: every kernel speaks this version.
const VERSION: u8 = 6;
/// `IPSET_CMD_*`
const DESTROY: u16 = 3;
const LIST: u16 = 7;
/// `NLM_F_EXCL`: without it, the destruction of an absent set is no error.
const EXCLUSIVE: u16 = 0x200;
/// `IPSET_ATTR_*` of a command.
const ATTR_PROTOCOL: u16 = 1;
const ATTR_SET_NAME: u16 = 2;
const ATTR_DATA: u16 = 7;
const ATTR_ELEMENTS: u16 = 8;
/// `IPSET_ATTR_*` of an element.
const ATTR_PORT: u16 = 4;

/// The kernel releases the set of a removed rule some time after the rule is gone, which can take this
/// many waits.
const TRIES: usize = 60;
const WAIT: Duration = Duration::from_millis(50);

/// Returns whether sets can exist. A request for them would load the module.
fn is_loaded() -> bool {
    Path::new("/sys/module/ip_set").exists()
}

pub(super) fn node_ports(socket: &mut Socket) -> Result<HashSet<(Protocol, u16)>, KernelError> {
    let mut found = HashSet::new();
    if !is_loaded() {
        return Ok(found);
    }
    for name in names::node_port_sets() {
        let protocol = protocol(&name);
        let ports = ports(socket, &name)?.into_iter().flatten();
        found.extend(ports.map(|port| (protocol, port)));
    }
    Ok(found)
}

/// Returns kube-proxy's sets.
pub(super) fn present(socket: &mut Socket) -> Result<Vec<String>, KernelError> {
    let mut found = Vec::new();
    for name in names::sets().filter(|_| is_loaded()) {
        if ports(socket, &name)?.is_some() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Returns the ports of a set's elements; `None` without the set.
fn ports(socket: &mut Socket, name: &str) -> Result<Option<Vec<u16>>, KernelError> {
    let ports = socket.dump(
        "ipset list",
        SUBSYSTEM << 8 | LIST,
        |message| body(message, name),
        |ports: &mut Vec<u16>, _, body| ports.extend(decode(body)),
    );
    match ports {
        Err(KernelError::Refused { error, .. }) if error.errno == Errno::NOENT => Ok(None),
        ports => ports.map(Some),
    }
}

/// Destroys all of kube-proxy's sets. Returns the result of each.
pub(super) fn destroy(socket: &mut Socket) -> Vec<(String, Result<(), String>)> {
    let mut tries = TRIES;
    let mut destroyed = Vec::new();
    if !is_loaded() {
        return destroyed;
    }
    for name in names::sets() {
        let outcome = loop {
            let refusal = match request_destruction(socket, &name) {
                Err(KernelError::Refused { error, .. }) => Some(error.errno),
                other => break Some(other.map_err(|error| error.to_string())),
            };
            match refusal {
                Some(Errno::NOENT) => break None,
                _ if tries == 0 => break Some(Err(in_use(&name))),
                _ => {
                    tries -= 1;
                    thread::sleep(WAIT);
                }
            }
        };
        destroyed.extend(outcome.map(|outcome| (name, outcome)));
    }
    destroyed
}

fn in_use(name: &str) -> String {
    format!(
        "ipset {name} is still in use by a rule (see `nft list ruleset`, `iptables-legacy-save`): \
         remove it, then run `kube-ipvs cleanup --kube-proxy`"
    )
}

fn request_destruction(socket: &mut Socket, name: &str) -> Result<(), KernelError> {
    let mut batch = Batch::default();
    batch.push(SUBSYSTEM << 8 | DESTROY, EXCLUSIVE, |message| body(message, name));
    match socket.transact(&mut batch, 0)?.into_iter().next().flatten() {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(KernelError::refused("ipset destroy", error)),
        None => Err(KernelError::Lost("ipset")),
    }
}

fn body(message: &mut Attributes<'_>, name: &str) {
    netfilter_header(message, family::number(Family::V4), 0);
    message.bytes(ATTR_PROTOCOL, &[VERSION]);
    message.text(ATTR_SET_NAME, name);
}

fn protocol(name: &str) -> Protocol {
    match name {
        _ if name.contains("SCTP") => Protocol::Sctp,
        _ if name.ends_with("UDP") => Protocol::Udp,
        _ => Protocol::Tcp,
    }
}

/// Reads the ports of a set's elements.
pub(super) fn decode(body: &[u8]) -> Vec<u16> {
    let (_, rest) = netfilter_message(body).unwrap_or_default();
    let lists = attributes(rest).filter(|attribute| attribute.kind == ATTR_ELEMENTS);
    let elements = lists.flat_map(|list| list.nested()).filter(|inner| inner.kind == ATTR_DATA);
    elements.filter_map(port).collect()
}

fn port(element: Attribute<'_>) -> Option<u16> {
    element.nested().find(|inner| inner.kind == ATTR_PORT)?.u16_be()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_of_elements_are_read() {
        let mut bytes = Vec::new();
        let mut message = Attributes::new(&mut bytes);
        body(&mut message, "KUBE-NODE-PORT-TCP");
        message.nest(ATTR_ELEMENTS, |list| {
            for port in [30080, 30443] {
                list.nest(ATTR_DATA, |element| element.u16_be(ATTR_PORT, port));
            }
        });
        assert_eq!(decode(&bytes), [30080, 30443]);
    }

    #[test]
    fn a_sets_name_tells_the_protocol() {
        for (name, expected) in [
            ("KUBE-NODE-PORT-TCP", Protocol::Tcp),
            ("KUBE-6-NODE-PORT-LOCAL-UDP", Protocol::Udp),
            ("KUBE-6-NODE-PORT-LOCAL-SCTP-HAS", Protocol::Sctp),
        ] {
            assert_eq!(protocol(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}
