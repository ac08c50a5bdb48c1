//! Objects of earlier versions: a device for all routes; a policy rule of each family, which sent
//! packets from elsewhere to a routing table of load balancer and external IPs; and IPv4 addresses on
//! the device, which the node's own packets had as their source.

use kube_ipvs_core::model::{Family, ROUTE_PROTOCOL};
use netlink_ipvs::KernelError;
use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rustix::io::Errno;

use super::{Routes, absent_is_empty, dump, message};

const TABLE: u32 = 7575;
const PRIORITY: u32 = 75;
/// The input interface of the node's own packets in policy rules.
const LOOPBACK: &str = "lo";
/// The device that all routes were on.
pub(super) const DEVICE: &str = "kube-ipvs";
/// The errors for an object that does not exist.
const GONE: [Errno; 5] =
    [Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::AFNOSUPPORT, Errno::OPNOTSUPP];

impl Routes {
    /// Returns whether a rule or the device exists.
    pub(super) fn has_earlier(&mut self) -> Result<bool, KernelError> {
        let mut found = self.device(DEVICE)?.is_some();
        for family in Family::BOTH {
            let rules = message::dump_rules(family);
            let has = dump(&mut self.socket, "rules", &rules, |found: &mut bool, body| {
                *found |= is_rule(body, family);
            });
            found |= absent_is_empty(has)?;
        }
        Ok(found)
    }

    /// Deletes these objects. Routes and addresses go with the device.
    ///
    /// # Errors
    ///
    /// If the kernel rejects a request or does not answer. Earlier objects are deleted by then.
    pub fn delete_earlier(&mut self) -> Result<(), KernelError> {
        if let Some(device) = self.device(DEVICE)? {
            self.remove(&message::delete_device(device.index))?;
        }
        Family::BOTH.into_iter().try_for_each(|family| self.remove(&delete_rule(family)))
    }

    fn remove(&mut self, request: &RouteNetlinkMessage) -> Result<(), KernelError> {
        match self.send("what an earlier version had", request) {
            Err(error) if error.errno().is_some_and(|it| GONE.contains(&it)) => Ok(()),
            removed => removed,
        }
    }
}

/// Only a rule with our protocol number matches.
fn delete_rule(family: Family) -> RouteNetlinkMessage {
    let mut message = RuleMessage::default();
    message.header.family = message::address_family(family);
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes = rule().into();
    RouteNetlinkMessage::DelRule(message)
}

fn rule() -> [RuleAttribute; 4] {
    [
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Iifname(LOOPBACK.to_owned()),
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
    ]
}

/// Returns whether RTM_NEWRULE is exactly the rule of a family.
fn is_rule(body: &[u8], family: Family) -> bool {
    RuleMessage::parse(body).is_ok_and(|message| {
        message.header.family == message::address_family(family)
            && message.header.flags.contains(RuleFlags::Invert)
            && rule().iter().all(|attribute| message.attributes.contains(attribute))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rule_reads_back_as_its_family() {
        let [v4, v6] = Family::BOTH;
        for (family, other) in [(v4, v6), (v6, v4)] {
            let body = message::body(&delete_rule(family));
            assert!(is_rule(&body, family) && !is_rule(&body, other));
        }
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_rule(&body, Family::V4);
        }
    }
}
