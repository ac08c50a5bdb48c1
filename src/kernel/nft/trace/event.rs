//! What the kernel reports of a traced packet (`NFT_MSG_TRACE`).

use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::Protocol;
use netlink_ipvs::{Attribute, find};

use crate::kernel::family::netfilter_message;
use crate::kernel::nft::constants::{trace as nfta, verdict};
use crate::kernel::nft::table::TableFamily;

/// `FIN`, `SYN`, `RST` and so on are at this offset of TCP's header.
const TCP_FLAGS: usize = 13;
const TCP: u8 = 6;
/// `RST` among a TCP segment's flags.
const RESET: u8 = 1 << 2;

/// A rule that a traced packet has matched, or the end of a chain or policy that it has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TraceEvent {
    /// Almost unique: by address, hash and incoming link of the packet.
    pub(crate) id: u32,
    pub(crate) at: RulePlace,
    pub(crate) verdict: TraceVerdict,
    /// In the first event of each base chain alone, as are the links.
    pub(crate) headers: Option<PacketHeaders>,
    pub(crate) input: Option<u32>,
    pub(crate) output: Option<u32>,
}

/// Where a rule or a policy is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RulePlace {
    pub(crate) family: TableFamily,
    pub(crate) table: String,
    pub(crate) chain: String,
    /// Identifies the rule within its table; `None` of a policy and of a chain's end.
    pub(crate) handle: Option<u64>,
}

/// What becomes of the packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TraceVerdict {
    Accept,
    Drop,
    /// Another part of the kernel has taken it.
    Stolen,
    /// It waits for a program.
    Queue,
    Jump(String),
    Goto(String),
    /// The next rule follows, or that of the calling chain.
    Continue,
}

/// What a packet's headers say at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PacketHeaders {
    pub(crate) source: SocketAddr,
    /// Without a port, as is the source, unless the protocol is TCP, UDP or SCTP.
    pub(crate) destination: SocketAddr,
    /// `IPPROTO_*`; of IPv6 that of the first header after it.
    pub(crate) protocol: u8,
    /// Whether it is a segment that ends a connection at once.
    pub(crate) resets: bool,
}

impl TraceEvent {
    /// Reads the payload of a message. Returns `None` in an unknown form.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (family, rest) = netfilter_message(payload)?;
        let find = |wanted| find(rest, wanted);
        let text = |wanted| Some(find(wanted)?.text()?.to_owned());
        let verdict = match find(nfta::TYPE)?.u32_be()? {
            nfta::TYPE_RULE => rule_verdict(find(nfta::VERDICT)?)?,
            // Of older kernels in host byte order.
            nfta::TYPE_POLICY if find(nfta::POLICY)?.u32()? == verdict::DROP => TraceVerdict::Drop,
            nfta::TYPE_POLICY => TraceVerdict::Accept,
            // The end of a chain, which may be the first event of a base chain. Newer kernels call it a
            // rule, without a handle.
            nfta::TYPE_RETURN => TraceVerdict::Continue,
            _ => return None,
        };
        let transport = find(nfta::TRANSPORT_HEADER).map_or(&[][..], |it| it.value);
        Some(Self {
            id: find(nfta::ID)?.u32_be()?,
            at: RulePlace {
                family: family.into(),
                table: text(nfta::TABLE)?,
                chain: text(nfta::CHAIN)?,
                handle: find(nfta::HANDLE).and_then(|it| it.u64_be()),
            },
            verdict,
            headers: find(nfta::NETWORK_HEADER)
                .and_then(|it| PacketHeaders::decode(it.value, transport)),
            input: find(nfta::INPUT_LINK).and_then(|it| it.u32_be()),
            output: find(nfta::OUTPUT_LINK).and_then(|it| it.u32_be()),
        })
    }
}

fn rule_verdict(of: Attribute<'_>) -> Option<TraceVerdict> {
    let chain = || Some(of.find(verdict::CHAIN)?.text()?.to_owned());
    Some(match of.find(verdict::CODE)?.u32_be()? {
        verdict::JUMP => TraceVerdict::Jump(chain()?),
        verdict::GOTO => TraceVerdict::Goto(chain()?),
        // The number of the queue, or of the error, is in the upper half.
        code if code.cast_signed() >= 0 => match code & 0xff {
            verdict::DROP => TraceVerdict::Drop,
            verdict::STOLEN => TraceVerdict::Stolen,
            verdict::QUEUE => TraceVerdict::Queue,
            _ => TraceVerdict::Accept,
        },
        _ => TraceVerdict::Continue,
    })
}

impl PacketHeaders {
    /// Reads the headers of network and transport.
    fn decode(network: &[u8], transport: &[u8]) -> Option<Self> {
        let bytes_at = |at: usize| network.get(at..)?.first_chunk::<4>().copied();
        let wide_at = |at: usize| network.get(at..)?.first_chunk::<16>().copied();
        let (source, destination, protocol) = match network.first()? >> 4 {
            4 => (bytes_at(12)?.into(), bytes_at(16)?.into(), *network.get(9)?),
            6 => (wide_at(8)?.into(), wide_at(24)?.into(), *network.get(6)?),
            _ => return None,
        };
        let port = |at: usize| {
            let port = transport.get(at..).and_then(|it| it.first_chunk().copied());
            port.filter(|_| has_ports(protocol)).map_or(0, u16::from_be_bytes)
        };
        let flags = transport.get(TCP_FLAGS).filter(|_| protocol == TCP);
        let socket = |ip: IpAddr, port| SocketAddr::new(ip, port);
        Some(Self {
            source: socket(source, port(0)),
            destination: socket(destination, port(2)),
            protocol,
            resets: flags.is_some_and(|flags| flags & RESET != 0),
        })
    }

    /// Returns whether both have the same ends.
    pub(crate) fn has_ends_of(&self, other: &Self) -> bool {
        (self.source, self.destination) == (other.source, other.destination)
    }

    /// Returns whether it belongs to a protocol of Services, unlike an error of ICMP.
    pub(crate) fn has_ports(&self) -> bool {
        has_ports(self.protocol)
    }
}

fn has_ports(protocol: u8) -> bool {
    Protocol::from_number(protocol).is_some()
}

#[cfg(test)]
pub(crate) mod samples {
    use netlink_ipvs::Attributes;

    use super::*;

    /// A message about a packet from one end to the other, over TCP.
    pub(crate) fn message(
        (table, chain): (&str, &str),
        id: u32,
        verdict: Option<(u64, u32)>,
        ends: Option<([u8; 4], [u8; 4])>,
    ) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        let mut to = Attributes::new(&mut bytes);
        to.u32_be(nfta::TYPE, verdict.map_or(nfta::TYPE_POLICY, |_| nfta::TYPE_RULE));
        to.u32_be(nfta::ID, id);
        to.text(nfta::CHAIN, chain);
        to.text(nfta::TABLE, table);
        match verdict {
            Some((handle, code)) => {
                to.bytes(nfta::HANDLE, &handle.to_be_bytes());
                to.nest(nfta::VERDICT, |to| to.u32_be(verdict::CODE, code));
            }
            None => to.u32(nfta::POLICY, verdict::ACCEPT),
        }
        if let Some((source, destination)) = ends {
            to.u32_be(nfta::INPUT_LINK, 7);
            let mut header = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            header.extend(source);
            header.extend(destination);
            to.bytes(nfta::NETWORK_HEADER, &header);
            let mut transport = [0; 20];
            transport[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
            to.bytes(nfta::TRANSPORT_HEADER, &transport);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::message;
    use super::*;

    #[test]
    fn an_event_is_read() {
        let ends = ([10, 244, 1, 12], [10, 96, 0, 20]);
        let bytes =
            message(("kube-ipvs", "prerouting"), 9, Some((12, verdict::ACCEPT)), Some(ends));
        let event = TraceEvent::decode(&bytes).expect("an event");
        assert_eq!((event.id, event.at.handle, event.input), (9, Some(12), Some(7)));
        assert_eq!(event.verdict, TraceVerdict::Accept);
        let headers = event.headers.expect("headers");
        assert_eq!(headers.source.to_string(), "10.244.1.12:40000");
        assert_eq!(headers.destination.to_string(), "10.96.0.20:80");
        assert!(headers.has_ports() && !headers.resets);
        let policy = message(("filter", "FORWARD"), 9, None, None);
        let policy = TraceEvent::decode(&policy).expect("an event");
        assert_eq!((policy.verdict, policy.at.handle), (TraceVerdict::Accept, None));
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TraceEvent::decode(&bytes);
            let (network, transport) = bytes.split_at(bytes.len() / 2);
            let _ = PacketHeaders::decode(network, transport);
        }

        #[test]
        fn no_truncated_message_causes_a_panic(at in 0usize..200, tail in any::<[u8; 8]>()) {
            let mut bytes = message(("t", "c"), 1, Some((1, 0)), Some(([1; 4], [2; 4])));
            bytes.truncate(at);
            bytes.extend(tail);
            let _ = TraceEvent::decode(&bytes);
        }
    }
}
