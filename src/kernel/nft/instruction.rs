//! What the kernel runs: `nf_tables` expressions over registers.

use crate::model::Family;

use super::constants::expression as constants;
use super::rule::Verdict;
use super::set::SetName;

/// One of sixteen 32-bit registers; longer values take several in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Register(pub(super) u32);

impl Register {
    /// `NFT_REG32_00` and following.
    pub(super) fn number(self) -> u32 {
        8 + self.0
    }
}

/// Which header a payload is read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Header {
    /// IPv4, IPv6 or ARP.
    Network,
    /// TCP, UDP, SCTP, ICMP.
    Transport,
}

impl Header {
    /// `NFT_PAYLOAD_*_HEADER`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Network => 1,
            Self::Transport => 2,
        }
    }
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetaKey {
    /// Address family, one byte.
    NetworkProtocol,
    /// Transport protocol, one byte.
    TransportProtocol,
    /// Name of the interface that it came in through, sixteen bytes.
    InputInterface,
}

impl MetaKey {
    /// `NFT_META_*`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::InputInterface => 6,
            Self::NetworkProtocol => 15,
            Self::TransportProtocol => 16,
        }
    }
}

/// What is known of a packet's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConntrackKey {
    /// Bits of its state, in host byte order.
    State,
    /// Whether this packet answers, one byte.
    Direction,
    /// Source address of the original direction.
    OriginalSource(Family),
    /// Destination address of the original direction.
    OriginalDestination(Family),
    /// Destination port of the original direction.
    OriginalDestinationPort,
}

impl ConntrackKey {
    /// `NFT_CT_*`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Direction => 1,
            Self::OriginalDestinationPort => 12,
            Self::OriginalSource(Family::V4) => 19,
            Self::OriginalDestination(Family::V4) => 20,
            Self::OriginalSource(Family::V6) => 21,
            Self::OriginalDestination(Family::V6) => 22,
        }
    }

    /// `IP_CT_DIR_ORIGINAL`, for what each direction has of its own.
    pub(super) fn direction(self) -> Option<u8> {
        match self {
            Self::State | Self::Direction => None,
            Self::OriginalSource(_)
            | Self::OriginalDestination(_)
            | Self::OriginalDestinationPort => Some(0),
        }
    }
}

/// How a register must compare with a constant. Numbers are in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    /// The same bytes.
    Equal,
    /// Other bytes.
    NotEqual,
    /// The same or a higher number.
    AtLeast,
    /// The same or a lower number.
    AtMost,
}

impl Comparison {
    /// `NFT_CMP_*`.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Equal => constants::COMPARE_EQUAL,
            Self::NotEqual => constants::COMPARE_NOT_EQUAL,
            Self::AtLeast => constants::COMPARE_AT_LEAST,
            Self::AtMost => constants::COMPARE_AT_MOST,
        }
    }
}

/// How a packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// TCP reset.
    TcpReset,
    /// ICMP or ICMPv6 unreachable with this code.
    Unreachable(u8),
    /// The same, with a code (`NFT_REJECT_ICMPX_*`) that stands for one of each family.
    UnreachableEither(u8),
}

impl Refusal {
    /// `NFT_REJECT_*` and the code.
    pub(super) fn numbers(self) -> (u32, u8) {
        match self {
            Self::Unreachable(code) => (0, code),
            Self::TcpReset => (1, 0),
            Self::UnreachableEither(code) => (2, code),
        }
    }
}

/// An expression, as the kernel calls it. A comparison or look-up that fails ends the rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Instruction {
    /// Reads bytes of a header.
    LoadPayload {
        /// Which header.
        header: Header,
        /// Bytes to skip.
        offset: u32,
        /// Bytes to read.
        len: u32,
        /// Where to.
        to: Register,
    },
    /// Reads what is known of the packet.
    LoadMeta {
        /// What.
        key: MetaKey,
        /// Where to.
        to: Register,
    },
    /// Reads what is known of the connection.
    LoadConntrack {
        /// What.
        key: ConntrackKey,
        /// Where to.
        to: Register,
    },
    /// Looks up in the routing tables what kind of address the source is: `RTN_*`, in host byte
    /// order.
    LoadSourceType {
        /// Where to.
        to: Register,
    },
    /// Sets a register to a constant.
    LoadConstant {
        /// The bytes.
        value: Vec<u8>,
        /// Where to.
        to: Register,
    },
    /// Compares a register with a constant.
    Compare {
        /// Which register.
        register: Register,
        /// How it must compare.
        how: Comparison,
        /// The constant.
        value: Vec<u8>,
    },
    /// Keeps some bits of a register.
    Mask {
        /// Which register.
        register: Register,
        /// The bits, as many bytes as the value has.
        bits: Vec<u8>,
    },
    /// Looks a key up.
    Lookup {
        /// Where.
        set: SetName,
        /// First register of the key.
        key: Register,
        /// Whether the key must not be there.
        negated: bool,
        /// First register for a map's value.
        value: Option<Register>,
    },
    /// Counts.
    Counter,
    /// Decides.
    Verdict(Verdict),
    /// Translates the destination.
    DestinationNat {
        /// Family of the address.
        family: Family,
        /// First register of the address.
        address: Register,
        /// Register of the port; without one it stays.
        port: Option<Register>,
    },
    /// Translates the source to the address of the outgoing interface.
    Masquerade {
        /// `NF_NAT_RANGE_*`.
        flags: u32,
        /// Registers of the first and the last port.
        ports: Option<(Register, Register)>,
    },
    /// Refuses.
    Reject(Refusal),
}
