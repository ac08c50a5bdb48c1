//! The language that our rules are written in. It knows what our rules need and nothing else.
//!
//! A rule is a list of [`Term`]s; its `Display` is the line that `nft list` prints, and
//! [`super::lower`] turns it into what the kernel runs.

use std::fmt;

use crate::model::{Family, Protocol};

use super::set::{Datatype, SetName};

/// A part of a packet, or of what is known about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// Source address. Packets of the other family do not match.
    Source(Family),
    /// Destination address. Packets of the other family do not match.
    Destination(Family),
    /// Transport protocol, beyond any IPv6 extension header.
    TransportProtocol,
    /// The protocol that follows the IP header directly.
    NextProtocol(Family),
    /// Destination port.
    DestinationPort,
    /// Source address of the connection's first packet.
    OriginalSource(Family),
    /// Destination address of the connection's first packet.
    OriginalDestination(Family),
    /// Destination port of the connection's first packet.
    OriginalDestinationPort,
    /// The interface that a packet came in through; no name for what this node's processes send.
    InputInterface,
    /// The address that an ARP packet asks for.
    ArpTarget,
}

impl Field {
    /// What it holds.
    pub(super) fn datatype(self) -> Datatype {
        match self {
            Self::Source(family)
            | Self::Destination(family)
            | Self::OriginalSource(family)
            | Self::OriginalDestination(family) => Datatype::Address(family),
            Self::ArpTarget => Datatype::Address(Family::V4),
            Self::TransportProtocol | Self::NextProtocol(_) => Datatype::Protocol,
            Self::DestinationPort | Self::OriginalDestinationPort => Datatype::Port,
            Self::InputInterface => Datatype::Interface,
        }
    }
}

/// The keyword of an address family.
pub(super) fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(family) => write!(f, "{} saddr", keyword(*family)),
            Self::Destination(family) => write!(f, "{} daddr", keyword(*family)),
            Self::TransportProtocol => f.write_str("meta l4proto"),
            Self::NextProtocol(Family::V4) => f.write_str("ip protocol"),
            Self::NextProtocol(Family::V6) => f.write_str("ip6 nexthdr"),
            Self::DestinationPort => f.write_str("th dport"),
            Self::OriginalSource(family) => write!(f, "ct original {} saddr", keyword(*family)),
            Self::OriginalDestination(family) => {
                write!(f, "ct original {} daddr", keyword(*family))
            }
            Self::OriginalDestinationPort => f.write_str("ct original proto-dst"),
            Self::InputInterface => f.write_str("iifname"),
            Self::ArpTarget => f.write_str("arp daddr ip"),
        }
    }
}

/// A condition that compares with a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// A packet of a connection that is known, or an error that belongs to one.
    EstablishedOrRelated,
    /// A packet that fits no connection, and cannot open one either.
    Invalid,
    /// A packet that answers.
    ReplyDirection,
    /// A packet whose source is an address of this node: one of its own processes sent it.
    LocalSource,
    /// A packet of a transport protocol.
    Transport(Protocol),
    /// A TCP reset.
    Reset,
    /// A TCP segment from a port between these, which belong to them.
    TcpSourcePorts(u16, u16),
    /// ICMP or ICMPv6.
    Icmp(Family),
    /// ICMP or ICMPv6 echo request.
    EchoRequest(Family),
    /// An ARP request.
    ArpRequest,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EstablishedOrRelated => f.write_str("ct state established,related"),
            Self::Invalid => f.write_str("ct state invalid"),
            Self::ReplyDirection => f.write_str("ct direction reply"),
            Self::LocalSource => f.write_str("fib saddr type local"),
            Self::Transport(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Reset => f.write_str("tcp flags rst"),
            Self::TcpSourcePorts(first, last) => write!(f, "tcp sport {first}-{last}"),
            Self::Icmp(Family::V4) => f.write_str("meta l4proto icmp"),
            Self::Icmp(Family::V6) => f.write_str("meta l4proto ipv6-icmp"),
            Self::EchoRequest(Family::V4) => f.write_str("icmp type echo-request"),
            Self::EchoRequest(Family::V6) => f.write_str("icmpv6 type echo-request"),
            Self::ArpRequest => f.write_str("arp operation request"),
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Leaves our table's chain of this hook.
    Accept,
    /// Vanishes.
    Drop,
    /// Goes through another chain and comes back.
    Jump(&'static str),
    /// Goes through another chain for good.
    Goto(&'static str),
}

/// How a sender is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rejection {
    /// A TCP reset.
    TcpReset,
    /// ICMP host unreachable, ICMPv6 address unreachable.
    HostUnreachable(Family),
    /// Port unreachable, of the packet's own family.
    PortUnreachable,
}

/// One step of a rule: a condition that a packet must meet, or what is done with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Term {
    /// Compares with a constant.
    Is(Condition),
    /// Looks a key up in a set.
    In {
        /// The fields that make up the key.
        key: Vec<Field>,
        /// The set.
        set: SetName,
        /// Whether the key must *not* be there.
        negated: bool,
    },
    /// Counts packets and bytes.
    Counter,
    /// Decides.
    Verdict(Verdict),
    /// Sends the connection to the address and port that a map has for the key.
    DestinationNat {
        /// The family of the addresses.
        family: Family,
        /// The fields that make up the key.
        key: Vec<Field>,
        /// The map.
        map: SetName,
    },
    /// Decides that the connection keeps its destination: chains of others that would translate it
    /// are not asked any more.
    KeepDestination(Family),
    /// Gives the connection the node's address as its source, and a random port: one of `ports`
    /// where that is given.
    Masquerade {
        /// First and last port.
        ports: Option<(u16, u16)>,
    },
    /// Refuses.
    Reject(Rejection),
}

/// Writes `a . b . c`.
fn write_key(f: &mut fmt::Formatter<'_>, key: &[Field]) -> fmt::Result {
    for (index, field) in key.iter().enumerate() {
        let separator = if index == 0 { "" } else { " . " };
        write!(f, "{separator}{field}")?;
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(condition) => condition.fmt(f),
            Self::In { key, set, negated } => {
                write_key(f, key)?;
                write!(f, " {}@{set}", if *negated { "!= " } else { "" })
            }
            Self::Counter => f.write_str("counter"),
            Self::Verdict(Verdict::Accept) => f.write_str("accept"),
            Self::Verdict(Verdict::Drop) => f.write_str("drop"),
            Self::Verdict(Verdict::Jump(chain)) => write!(f, "jump {chain}"),
            Self::Verdict(Verdict::Goto(chain)) => write!(f, "goto {chain}"),
            Self::DestinationNat { family, key, map } => {
                write!(f, "dnat {} to ", keyword(*family))?;
                write_key(f, key)?;
                write!(f, " map @{map}")
            }
            Self::KeepDestination(family) => {
                write!(f, "dnat {} to {}", keyword(*family), Field::Destination(*family))
            }
            Self::Masquerade { ports: None } => f.write_str("masquerade fully-random"),
            Self::Masquerade { ports: Some((first, last)) } => {
                write!(f, "masquerade to :{first}-{last} fully-random")
            }
            Self::Reject(Rejection::TcpReset) => f.write_str("reject with tcp reset"),
            Self::Reject(Rejection::HostUnreachable(Family::V4)) => {
                f.write_str("reject with icmp host-unreachable")
            }
            Self::Reject(Rejection::HostUnreachable(Family::V6)) => {
                f.write_str("reject with icmpv6 addr-unreachable")
            }
            // The default, which `nft list` leaves out.
            Self::Reject(Rejection::PortUnreachable) => f.write_str("reject"),
        }
    }
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Rule {
    /// The steps, in order; the first condition that fails ends the rule.
    pub(super) terms: Vec<Term>,
}

/// A rule for every packet, to be narrowed.
pub(super) fn rule() -> Rule {
    Rule::default()
}

impl Rule {
    /// Only where the condition holds.
    pub(super) fn when(self, condition: Condition) -> Self {
        self.then(Term::Is(condition))
    }

    /// Only where the set has the key.
    pub(super) fn within(self, key: &[Field], set: SetName) -> Self {
        self.then(Term::In { key: key.to_vec(), set, negated: false })
    }

    /// Only where the set does not have the key.
    pub(super) fn not_within(self, key: &[Field], set: SetName) -> Self {
        self.then(Term::In { key: key.to_vec(), set, negated: true })
    }

    /// Counts what comes this far.
    pub(super) fn counter(self) -> Self {
        self.then(Term::Counter)
    }

    /// Decides so.
    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        self.then(Term::Verdict(verdict))
    }

    /// Takes one step more.
    pub(super) fn then(mut self, term: Term) -> Self {
        self.terms.push(term);
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{term}")?;
        }
        Ok(())
    }
}
