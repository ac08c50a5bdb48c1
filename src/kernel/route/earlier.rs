//! What an earlier version had: a policy rule of each family, by which packets that this node did not
//! start were led to a routing table of load balancer and external IPs, and these IPv4 addresses on
//! our device, from which the node spoke.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rustix::io::Errno;

use super::message::{self, Request};
use super::{Routes, absent_is_empty, dump, is_ours};
use crate::kernel::netlink::KernelError;
use crate::model::{Family, ROUTE_PROTOCOL};

/// The routing table.
const TABLE: u32 = 7575;
/// The priority of the rules.
const PRIORITY: u32 = 75;
/// Where this node's own packets come in from, as rules see it.
const LOOPBACK: &str = "lo";
/// The address that stays: a device that loses its last IPv4 address loses its IPv4 routes
/// (`fib_inetaddr_event`), those of this version, too.
const LASTING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 75);
/// What is to be removed is not there.
const GONE: [Errno; 6] = [
    Errno::NOENT,
    Errno::SRCH,
    Errno::NODEV,
    Errno::ADDRNOTAVAIL,
    Errno::AFNOSUPPORT,
    Errno::OPNOTSUPP,
];

impl Routes {
    /// Whether a rule is there. It goes last, so without it there is nothing else.
    pub(super) fn has_rules(&mut self) -> Result<bool, KernelError> {
        let mut found = false;
        for family in Family::BOTH {
            let rules = message::dump_rules(family);
            let has = dump(&mut self.socket, "rules", &rules, |found: &mut bool, body| {
                *found |= is_rule(body, family);
            });
            found |= absent_is_empty(has)?;
        }
        Ok(found)
    }

    /// Removes all of it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer. What comes first is removed by then.
    pub fn delete_earlier(&mut self) -> Result<(), KernelError> {
        if let Some(device) = self.device()?.filter(is_ours) {
            for family in Family::BOTH {
                for route in self.routes(family, TABLE, device.index)? {
                    self.remove(&message::delete_route(&route, TABLE, device.index))?;
                }
            }
            for ip in self.addresses(device.index)? {
                self.remove(&message::delete_address(ip, device.index))?;
            }
        }
        Family::BOTH.into_iter().try_for_each(|family| self.remove(&delete_rule(family)))
    }

    /// The IPv4 addresses on our device, but for the one that stays.
    fn addresses(&mut self, device: u32) -> Result<Vec<Ipv4Addr>, KernelError> {
        let request = message::dump_all_addresses();
        dump(&mut self.socket, "addresses", &request, |found: &mut Vec<_>, body| {
            let address = super::decode::address(body).filter(|it| it.device == device);
            match address.map(|it| it.ip) {
                Some(IpAddr::V4(ip)) if ip != LASTING => found.push(ip),
                _ => {}
            }
        })
    }

    fn remove(&mut self, request: &Request) -> Result<(), KernelError> {
        match self.send("what an earlier version had", request) {
            Err(KernelError::Refused { error, .. }) if GONE.contains(&error.errno) => Ok(()),
            removed => removed,
        }
    }
}

/// Only a rule with our protocol number matches.
fn delete_rule(family: Family) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = message::address_family(family);
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes = rule().into();
    Request::new(RouteNetlinkMessage::DelRule(message), 0)
}

fn rule() -> [RuleAttribute; 4] {
    [
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Iifname(LOOPBACK.to_owned()),
        RuleAttribute::Protocol(RouteProtocol::from(ROUTE_PROTOCOL)),
    ]
}

/// Whether RTM_NEWRULE tells of exactly the rule of a family.
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
            let body = delete_rule(family).body();
            assert!(is_rule(&body, family) && !is_rule(&body, other));
        }
    }

    proptest! {
        #[test]
        fn nothing_received_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = is_rule(&body, Family::V4);
        }
    }
}
