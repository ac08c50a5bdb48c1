//! Compiles a rule in nft's language to the expressions that `nft` would send, so that `nft list`
//! prints the same rule. Only the forms that `ruleset.nft` uses are supported.

use std::net::IpAddr;

use super::constants::expression::{
    PAYLOAD_NETWORK_HEADER as NETWORK, PAYLOAD_TRANSPORT_HEADER as TRANSPORT,
};
use super::constants::{conntrack, expression as nfta, verdict};
use super::expression::{Expressions, FIRST, Operand};
use super::set::{Datatype, Layout, Set};
use super::table::TableFamily;

/// `NFT_META_*`
const INPUT_INTERFACE: Operand = Operand::Meta(6);
const STATE: Operand = Operand::Conntrack(conntrack::STATE, None);
const DIRECTION: Operand = Operand::Conntrack(conntrack::DIRECTION, None);
const STATUS: Operand = Operand::Conntrack(conntrack::STATUS, None);

/// `SYN` among a TCP segment's flags.
const SYN: u8 = 1 << 1;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const PROTOCOLS: [(&str, u8); 5] =
    [("icmp", ICMP), ("tcp", TCP), ("udp", UDP), ("ipv6-icmp", ICMPV6), ("sctp", 132)];

/// Conditions on a number in host byte order that must have a bit.
const BITS: &[(&[&str], Operand, u32)] = &[
    (&["ct", "state", "invalid"], STATE, conntrack::INVALID),
    (&["ct", "status", "assured"], STATUS, conntrack::ASSURED),
    (&["ct", "status", "dnat"], STATUS, conntrack::DESTINATION_TRANSLATED),
];

/// Conditions with a fixed value.
const VALUES: &[(&[&str], Operand, &[u8])] = &[
    // IP_CT_DIR_*
    (&["ct", "direction", "original"], DIRECTION, &[0]),
    (&["ct", "direction", "reply"], DIRECTION, &[1]),
    // RTN_LOCAL
    (
        &["fib", "saddr", "type", "local"],
        Operand::AddressType(nfta::FIB_SOURCE),
        &2_u32.to_ne_bytes(),
    ),
    (
        &["fib", "daddr", "type", "local"],
        Operand::AddressType(nfta::FIB_DESTINATION),
        &2_u32.to_ne_bytes(),
    ),
    // NFT_SOCKET_TRANSPARENT
    (&["socket", "transparent", "0"], Operand::Socket(0), &[0]),
];

/// Compiles the words of a rule. Returns `None` for an unknown form, or a key of another type than
/// its set.
pub(super) fn rule(words: &[&str], family: TableFamily, sets: &[Set]) -> Option<Expressions> {
    let mut rule = Rule { family, sets, expressions: Expressions::default(), transport: None };
    rule.statements(words)?;
    Some(rule.expressions)
}

/// A rule in the making.
struct Rule<'a> {
    family: TableFamily,
    sets: &'a [Set],
    expressions: Expressions,
    /// The transport protocol that the rule requires so far.
    transport: Option<u8>,
}

impl Rule<'_> {
    fn statements(&mut self, words: &[&str]) -> Option<()> {
        let family = self.family;
        match words {
            [] => {}
            ["accept"] => self.expressions.verdict(verdict::ACCEPT, None),
            ["drop"] => self.expressions.verdict(verdict::DROP, None),
            ["jump", chain] => self.expressions.verdict(verdict::JUMP, Some(chain)),
            ["goto", chain] => self.expressions.verdict(verdict::GOTO, Some(chain)),
            ["reject", with @ ..] => self.reject(with)?,
            ["flow", "add", flowtable] => self.expressions.offload(flowtable.strip_prefix('@')?),
            ["masquerade", "fully-random"] => self.expressions.masquerade(None),
            ["masquerade", "to", range, "fully-random"] => {
                self.expressions.masquerade(Some(ports(range.strip_prefix(':')?)?));
            }
            ["dnat", "to", address @ ..] => {
                let (Layout(fields), []) = self.key(address)? else { return None };
                if fields != [Datatype::Address(family.addresses())] {
                    return None;
                }
                self.expressions.destination_nat(family.number(), None);
            }
            ["dnat", ip, "to", key @ .., "map", map] if *ip == family.name() => {
                let address = Datatype::Address(family.addresses());
                let (key, []) = self.key(key)? else { return None };
                self.look_up(&key, map, false, Some(Layout(vec![address, Datatype::Port])))?;
                let port = FIRST + address.registers();
                self.expressions.destination_nat(family.number(), Some(port));
            }
            [header, end, "set", value @ ..] => {
                let (checksum, protocol) = match *header {
                    "ip" => (Some(10), None),
                    "ip6" => (None, None),
                    "tcp" => (Some(16), Some(TCP)),
                    "udp" => (Some(6), Some(UDP)),
                    _ => return None,
                };
                protocol.into_iter().for_each(|protocol| self.transport(protocol));
                let (Operand::Payload(base, offset), datatype, []) = self.field(&[header, end])?
                else {
                    return None;
                };
                let rest = self.mapped(value, datatype)?;
                let is_address = base == NETWORK;
                self.expressions.store((base, offset), datatype.len(), checksum, is_address);
                self.statements(rest)?;
            }
            _ => {
                let rest = self.condition(words)?;
                self.statements(rest)?;
            }
        }
        Some(())
    }

    /// Without a code, as with `nft`, port unreachable.
    fn reject(&mut self, with: &[&str]) -> Option<()> {
        let (kind, code) = match (self.family, with) {
            (_, ["with", "tcp", "reset"]) => (nfta::REJECT_TCP_RESET, 0),
            (TableFamily::Ip, ["with", "icmp", "host-unreachable"]) => (nfta::REJECT_ICMP, 1),
            (TableFamily::Ip6, ["with", "icmpv6", "addr-unreachable"]) => (nfta::REJECT_ICMP, 3),
            (TableFamily::Ip, []) => (nfta::REJECT_ICMP, 3),
            (TableFamily::Ip6, []) => (nfta::REJECT_ICMP, 4),
            _ => return None,
        };
        self.expressions.reject(kind, code);
        Some(())
    }

    /// Compiles one condition or counter, and returns the words after it.
    fn condition<'w>(&mut self, words: &'w [&'w str]) -> Option<&'w [&'w str]> {
        for (form, source, value) in VALUES {
            if let Some(rest) = words.strip_prefix(*form) {
                self.expressions.require(*source, value);
                return Some(rest);
            }
        }
        for (form, source, bit) in BITS {
            if let Some(rest) = words.strip_prefix(*form) {
                self.expressions.load(*source, 4, FIRST);
                self.expressions.mask(FIRST, &bit.to_ne_bytes());
                self.expressions.compare(nfta::COMPARE_NOT_EQUAL, &[0; 4]);
                return Some(rest);
            }
        }
        match words {
            ["counter", rest @ ..] => {
                self.expressions.counter();
                Some(rest)
            }
            ["meta", "l4proto", name, rest @ ..] => {
                let known = PROTOCOLS.iter().find(|(known, _)| known == name);
                self.transport(known?.1);
                Some(rest)
            }
            ["numgen", "random", "mod", modulus, "0", rest @ ..] => {
                self.expressions.require(Operand::Random(modulus.parse().ok()?), &[0; 4]);
                Some(rest)
            }
            [icmp, "type", "echo-request", rest @ ..] => {
                let (protocol, echo_request) = match (self.family, *icmp) {
                    (TableFamily::Ip, "icmp") => (ICMP, 8),
                    (TableFamily::Ip6, "icmpv6") => (ICMPV6, 128),
                    _ => return None,
                };
                self.transport(protocol);
                self.expressions.require(Operand::Payload(TRANSPORT, 0), &[echo_request]);
                Some(rest)
            }
            ["tcp", "flags", "!", "syn", rest @ ..] => {
                self.transport(TCP);
                self.expressions.load(Operand::Payload(TRANSPORT, 13), 1, FIRST);
                self.expressions.mask(FIRST, &[SYN]);
                self.expressions.compare(nfta::COMPARE_EQUAL, &[0]);
                Some(rest)
            }
            // ARPOP_REQUEST
            ["arp", "operation", "request", rest @ ..] if self.family == TableFamily::Arp => {
                self.expressions.require(Operand::Payload(NETWORK, 6), &1_u16.to_be_bytes());
                Some(rest)
            }
            ["tcp", "dport", range, rest @ ..] => {
                let (first, last) = ports(range)?;
                self.transport(TCP);
                self.expressions.load(Operand::Payload(TRANSPORT, 2), 2, FIRST);
                self.expressions.compare(nfta::COMPARE_AT_LEAST, &first.to_be_bytes());
                self.expressions.compare(nfta::COMPARE_AT_MOST, &last.to_be_bytes());
                Some(rest)
            }
            _ => {
                let (key, rest) = self.key(words)?;
                let (is_negated, set, rest) = match rest {
                    ["!=", set, rest @ ..] => (true, set, rest),
                    [set, rest @ ..] => (false, set, rest),
                    [] => return None,
                };
                self.look_up(&key, set, is_negated, None)?;
                Some(rest)
            }
        }
    }

    /// Requires the transport protocol, unless the rule already does.
    fn transport(&mut self, protocol: u8) {
        if self.transport.replace(protocol) != Some(protocol) {
            self.expressions.require(Operand::TRANSPORT_PROTOCOL, &[protocol]);
        }
    }

    /// Looks up the key that [`Rule::key`] loaded in a set, or in a map with values of type `value`.
    fn look_up(
        &mut self,
        key: &Layout,
        name: &str,
        is_negated: bool,
        value: Option<Layout>,
    ) -> Option<()> {
        let name = name.strip_prefix('@')?;
        let set = self.sets.iter().find(|set| set.name == name)?;
        let fits = set.key == *key && set.value == value;
        fits.then(|| self.expressions.look_up(name, is_negated, value.is_some()))
    }

    /// Loads a field or looks up `KEY map @MAP`, and returns the words after it.
    fn mapped<'w>(&mut self, words: &'w [&'w str], datatype: Datatype) -> Option<&'w [&'w str]> {
        let (key, rest) = self.key(words)?;
        let ["map", map, rest @ ..] = rest else {
            return (key.0 == [datatype]).then_some(rest);
        };
        self.look_up(&key, map, false, Some(Layout(vec![datatype])))?;
        Some(rest)
    }

    /// Loads a key such as `FIELD & MASK . FIELD`, and returns the words after it.
    fn key<'w>(&mut self, mut words: &'w [&'w str]) -> Option<(Layout, &'w [&'w str])> {
        let mut fields = Vec::new();
        let mut register = FIRST;
        loop {
            let (source, datatype, rest) = self.field(words)?;
            self.expressions.load(source, datatype.len(), register);
            fields.push(datatype);
            words = rest;
            if let ["&", mask, rest @ ..] = words {
                match mask.parse().ok()? {
                    IpAddr::V4(mask) => self.expressions.mask(register, &mask.octets()),
                    IpAddr::V6(mask) => self.expressions.mask(register, &mask.octets()),
                }
                words = rest;
            }
            let [".", rest @ ..] = words else { return Some((Layout(fields), words)) };
            words = rest;
            register += datatype.registers();
        }
    }

    fn field<'w>(&self, words: &'w [&'w str]) -> Option<(Operand, Datatype, &'w [&'w str])> {
        let address = Datatype::Address(self.family.addresses());
        Some(match words {
            // The same offsets in TCP, UDP and SCTP.
            ["th" | "tcp" | "udp", "sport", rest @ ..] => {
                (Operand::Payload(TRANSPORT, 0), Datatype::Port, rest)
            }
            ["th" | "tcp" | "udp", "dport", rest @ ..] => {
                (Operand::Payload(TRANSPORT, 2), Datatype::Port, rest)
            }
            ["meta", "l4proto", rest @ ..] => {
                (Operand::TRANSPORT_PROTOCOL, Datatype::Protocol, rest)
            }
            ["iifname", rest @ ..] => (INPUT_INTERFACE, Datatype::Interface, rest),
            ["ct", direction @ ("original" | "reply"), words @ ..] => {
                // IP_CT_DIR_*
                let direction = Some(u8::from(*direction == "reply"));
                let is_ip = |ip: &str| ip == self.family.name();
                let of_family = |keys| *self.family.addresses().pick(keys);
                let (key, datatype, rest) = match words {
                    ["proto-src", rest @ ..] => (conntrack::SOURCE_PORT, Datatype::Port, rest),
                    ["proto-dst", rest @ ..] => (conntrack::DESTINATION_PORT, Datatype::Port, rest),
                    [ip, "saddr", rest @ ..] if is_ip(ip) => {
                        (of_family(&conntrack::SOURCE), address, rest)
                    }
                    [ip, "daddr", rest @ ..] if is_ip(ip) => {
                        (of_family(&conntrack::DESTINATION), address, rest)
                    }
                    _ => return None,
                };
                (Operand::Conntrack(key, direction), datatype, rest)
            }
            // For Ethernet and IPv4.
            ["arp", "daddr", "ip", rest @ ..] if self.family == TableFamily::Arp => {
                (Operand::Payload(NETWORK, 24), address, rest)
            }
            [ip, name, rest @ ..] if *ip == self.family.name() => {
                let (offset, datatype) = match (self.family, *name) {
                    (TableFamily::Ip, "saddr") => (12, address),
                    (TableFamily::Ip, "daddr") => (16, address),
                    (TableFamily::Ip, "protocol") => (9, Datatype::Protocol),
                    (TableFamily::Ip6, "saddr") => (8, address),
                    (TableFamily::Ip6, "daddr") => (24, address),
                    (TableFamily::Ip6, "nexthdr") => (6, Datatype::Protocol),
                    _ => return None,
                };
                (Operand::Payload(NETWORK, offset), datatype, rest)
            }
            _ => return None,
        })
    }
}

/// Parses `FIRST-LAST`.
fn ports(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}
