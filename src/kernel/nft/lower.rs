//! From a rule to the instructions that the kernel runs.
//!
//! They are those that `nft` would write for the same line, so that `nft list` prints the line
//! back: where a field exists in one protocol only, the check for that protocol comes right before
//! the field's first use, and once.

use crate::model::{Family, Protocol};

use super::instruction::{
    Comparison, ConntrackKey, Header, Instruction, MetaKey, Refusal, Register,
};
use super::rule::{Condition, Field, Rejection, Rule, Term};
use super::set::SetName;

/// `NF_NAT_RANGE_PROTO_SPECIFIED`
const PORTS_GIVEN: u32 = 1 << 1;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
const FULLY_RANDOM: u32 = 1 << 4;
/// Bits of `IP_CT_ESTABLISHED` and `IP_CT_RELATED` in a connection's state.
const ESTABLISHED_OR_RELATED: u32 = 1 << 1 | 1 << 2;
/// `NF_CT_STATE_INVALID_BIT`
const INVALID: u32 = 1 << 0;
/// `RST` among a TCP segment's flags.
const RESET: u8 = 1 << 2;
/// `IP_CT_DIR_REPLY`
const REPLY: u8 = 1;
/// `RTN_LOCAL`
const LOCAL_ADDRESS: u32 = 2;

/// Where values are compared and keys begin.
const FIRST: Register = Register(0);

/// The instructions of a rule.
pub(super) fn lower(rule: &Rule) -> Vec<Instruction> {
    let mut lowering = Lowering::default();
    for term in &rule.terms {
        lowering.term(term);
    }
    lowering.instructions
}

/// What has been written of a rule, and what it has checked by now.
#[derive(Default)]
struct Lowering {
    instructions: Vec<Instruction>,
    family: Option<Family>,
    transport: Option<u8>,
}

impl Lowering {
    fn push(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    fn term(&mut self, term: &Term) {
        match term {
            Term::Is(condition) => self.condition(*condition),
            Term::In { key, set, negated } => self.look_up(key, *set, *negated, None),
            Term::Counter => self.push(Instruction::Counter),
            Term::Verdict(verdict) => self.push(Instruction::Verdict(*verdict)),
            Term::DestinationNat { family, key, map } => {
                self.look_up(key, *map, false, Some(FIRST));
                let port = Some(Register(words(Field::Destination(*family))));
                self.push(Instruction::DestinationNat { family: *family, address: FIRST, port });
            }
            Term::KeepDestination(family) => {
                self.family(*family);
                self.push(load(Field::Destination(*family), FIRST));
                let family = *family;
                self.push(Instruction::DestinationNat { family, address: FIRST, port: None });
            }
            Term::Masquerade { ports: None } => {
                self.push(Instruction::Masquerade { flags: FULLY_RANDOM, ports: None });
            }
            Term::Masquerade { ports: Some((first, last)) } => {
                // Four registers apart, which is how `nft` lays them out.
                let registers = (FIRST, Register(4));
                for (port, to) in [(first, registers.0), (last, registers.1)] {
                    self.push(Instruction::LoadConstant { value: port.to_be_bytes().into(), to });
                }
                let flags = PORTS_GIVEN | FULLY_RANDOM;
                self.push(Instruction::Masquerade { flags, ports: Some(registers) });
            }
            Term::Reject(rejection) => self.push(Instruction::Reject(match rejection {
                Rejection::TcpReset => Refusal::TcpReset,
                Rejection::HostUnreachable(Family::V4) => Refusal::Unreachable(1),
                Rejection::HostUnreachable(Family::V6) => Refusal::Unreachable(3),
                Rejection::PortUnreachable => Refusal::UnreachableEither(1),
            })),
        }
    }

    fn condition(&mut self, condition: Condition) {
        match condition {
            Condition::EstablishedOrRelated => self.state(ESTABLISHED_OR_RELATED),
            Condition::Invalid => self.state(INVALID),
            Condition::Reset => {
                self.transport(Protocol::Tcp.number());
                self.push(payload(Header::Transport, 13, 1, FIRST));
                self.one_of([RESET]);
            }
            Condition::TcpSourcePorts(first, last) => {
                self.transport(Protocol::Tcp.number());
                self.push(payload(Header::Transport, 0, 2, FIRST));
                self.compare(Comparison::AtLeast, first.to_be_bytes());
                self.compare(Comparison::AtMost, last.to_be_bytes());
            }
            Condition::ReplyDirection => {
                self.push(Instruction::LoadConntrack { key: ConntrackKey::Direction, to: FIRST });
                self.compare(Comparison::Equal, [REPLY]);
            }
            Condition::LocalSource => {
                self.push(Instruction::LoadSourceType { to: FIRST });
                self.compare(Comparison::Equal, LOCAL_ADDRESS.to_ne_bytes());
            }
            Condition::Transport(protocol) => self.transport(protocol.number()),
            Condition::Icmp(family) => self.transport(icmp(family).0),
            Condition::EchoRequest(family) => {
                let (protocol, echo_request) = icmp(family);
                self.family(family);
                self.transport(protocol);
                self.push(payload(Header::Transport, 0, 1, FIRST));
                self.compare(Comparison::Equal, [echo_request]);
            }
            Condition::ArpRequest => {
                self.push(payload(Header::Network, 6, 2, FIRST));
                self.compare(Comparison::Equal, 1_u16.to_be_bytes());
            }
        }
    }

    fn compare(&mut self, how: Comparison, value: impl Into<Vec<u8>>) {
        self.push(Instruction::Compare { register: FIRST, how, value: value.into() });
    }

    /// Checks that at least one of these bits is set.
    fn one_of(&mut self, bits: impl Into<Vec<u8>>) {
        let bits = bits.into();
        let none = vec![0; bits.len()];
        self.push(Instruction::Mask { register: FIRST, bits });
        self.compare(Comparison::NotEqual, none);
    }

    /// Checks for one of these states of the connection.
    fn state(&mut self, bits: u32) {
        self.push(Instruction::LoadConntrack { key: ConntrackKey::State, to: FIRST });
        self.one_of(bits.to_ne_bytes());
    }

    /// Checks the address family, where that has not been done.
    fn family(&mut self, family: Family) {
        if self.family.replace(family) == Some(family) {
            return;
        }
        self.push(Instruction::LoadMeta { key: MetaKey::NetworkProtocol, to: FIRST });
        self.compare(Comparison::Equal, [nfproto(family)]);
    }

    /// Checks the transport protocol, where that has not been done.
    fn transport(&mut self, protocol: u8) {
        if self.transport.replace(protocol) == Some(protocol) {
            return;
        }
        self.push(Instruction::LoadMeta { key: MetaKey::TransportProtocol, to: FIRST });
        self.compare(Comparison::Equal, [protocol]);
    }

    fn look_up(&mut self, key: &[Field], set: SetName, negated: bool, value: Option<Register>) {
        for field in key {
            match field {
                Field::Source(family)
                | Field::Destination(family)
                | Field::NextProtocol(family) => self.family(*family),
                _ => {}
            }
        }
        let mut to = FIRST;
        for field in key {
            self.push(load(*field, to));
            to = Register(to.0 + words(*field));
        }
        self.push(Instruction::Lookup { set, key: FIRST, negated, value });
    }
}

/// How many registers a field takes.
fn words(field: Field) -> u32 {
    (field.datatype().padded_len() / 4) as u32
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// The protocol number of ICMP or ICMPv6, and its type for echo requests.
fn icmp(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (1, 8),
        Family::V6 => (58, 128),
    }
}

fn payload(header: Header, offset: u32, len: u32, to: Register) -> Instruction {
    Instruction::LoadPayload { header, offset, len, to }
}

fn load(field: Field, to: Register) -> Instruction {
    let conntrack = |key| Instruction::LoadConntrack { key, to };
    match field {
        Field::Source(Family::V4) => payload(Header::Network, 12, 4, to),
        Field::Source(Family::V6) => payload(Header::Network, 8, 16, to),
        Field::Destination(Family::V4) => payload(Header::Network, 16, 4, to),
        Field::Destination(Family::V6) => payload(Header::Network, 24, 16, to),
        Field::NextProtocol(Family::V4) => payload(Header::Network, 9, 1, to),
        Field::NextProtocol(Family::V6) => payload(Header::Network, 6, 1, to),
        // At the same place in TCP, UDP and SCTP.
        Field::DestinationPort => payload(Header::Transport, 2, 2, to),
        // Of an Ethernet and IPv4 request.
        Field::ArpTarget => payload(Header::Network, 24, 4, to),
        Field::TransportProtocol => Instruction::LoadMeta { key: MetaKey::TransportProtocol, to },
        Field::InputInterface => Instruction::LoadMeta { key: MetaKey::InputInterface, to },
        Field::OriginalSource(family) => conntrack(ConntrackKey::OriginalSource(family)),
        Field::OriginalDestination(family) => conntrack(ConntrackKey::OriginalDestination(family)),
        Field::OriginalDestinationPort => conntrack(ConntrackKey::OriginalDestinationPort),
    }
}
