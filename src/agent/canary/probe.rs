//! A probe: a connection attempt of which the agent is both ends, the client and the endpoint.
//!
//! ```text
//! client ── SYN to the front end ──► prerouting, IPVS at input, postrouting ──► endpoint
//! client ◄── RST from the front end ── IPVS at forward, prerouting ◄── RST from the endpoint ──┘
//! ```
//!
//! The endpoint refuses the connection, so neither IPVS nor connection tracking keeps it for long.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use kube_ipvs_core::canary::{CanaryPath, path};
use kube_ipvs_core::model::Family;

use super::verdict::ProbeOutcome;

const HOPS: u8 = 64;
const WINDOW: u16 = 1024;

/// A TCP segment without data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TcpSegment {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
    /// `None` without ACK.
    pub(super) acknowledged: Option<u32>,
    pub(super) is_syn: bool,
    pub(super) is_reset: bool,
}

impl TcpSegment {
    /// Returns the IP packet; `None` if the addresses are of two families.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let packet = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), HOPS)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), HOPS)
            }
            _ => return None,
        };
        let (from, to) = (self.source.port(), self.destination.port());
        let mut packet = packet.tcp(from, to, self.sequence, WINDOW);
        if self.is_syn {
            packet = packet.syn();
        }
        if self.is_reset {
            packet = packet.rst();
        }
        if let Some(acknowledged) = self.acknowledged {
            packet = packet.ack(acknowledged);
        }
        let mut bytes = Vec::new();
        packet.write(&mut bytes, &[]).ok()?;
        Some(bytes)
    }

    /// Reads an IP packet; `None` if it is no TCP segment.
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ip(packet).ok()?;
        let (from, to): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Ipv6(ip) => {
                (ip.header().source_addr().into(), ip.header().destination_addr().into())
            }
            NetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        Some(Self {
            source: SocketAddr::new(from, tcp.source_port()),
            destination: SocketAddr::new(to, tcp.destination_port()),
            sequence: tcp.sequence_number(),
            acknowledged: tcp.ack().then(|| tcp.acknowledgment_number()),
            is_syn: tcp.syn(),
            is_reset: tcp.rst(),
        })
    }
}

/// A probe that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Probe {
    pub(super) family: Family,
    way: CanaryPath,
    client: SocketAddr,
    sequence: u32,
    has_reached: bool,
    is_answered: bool,
}

impl Probe {
    /// Returns a probe from a port of the client, which the probes of the last minutes did not use.
    pub(super) fn new(family: Family, port: u16, sequence: u32) -> Self {
        let way = path(family);
        let client = SocketAddr::new(way.client, port);
        Self { family, way, client, sequence, has_reached: false, is_answered: false }
    }

    /// Returns the request of the client.
    pub(super) fn request(&self) -> TcpSegment {
        TcpSegment {
            source: self.client,
            destination: self.front_end(),
            sequence: self.sequence,
            acknowledged: None,
            is_syn: true,
            is_reset: false,
        }
    }

    /// Takes a segment that the node has sent to the client or the endpoint. Returns the endpoint's
    /// answer if it was the request.
    pub(super) fn receive(&mut self, segment: &TcpSegment) -> Option<TcpSegment> {
        let next = Some(self.sequence.wrapping_add(1));
        if segment.destination == self.way.endpoint
            && segment.is_syn
            && segment.sequence == self.sequence
        {
            self.has_reached = true;
            return Some(TcpSegment {
                source: self.way.endpoint,
                destination: segment.source,
                sequence: 0,
                acknowledged: next,
                is_syn: false,
                is_reset: true,
            });
        }
        self.is_answered |= segment.destination == self.client
            && segment.source == self.front_end()
            && segment.is_reset
            && segment.acknowledged == next;
        None
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Returns what became of it, as far as is known by now.
    pub(super) fn outcome(&self) -> ProbeOutcome {
        match (self.has_reached, self.is_answered) {
            (true, true) => ProbeOutcome::Answered,
            (true, false) => ProbeOutcome::AnswerLost,
            (false, true) => ProbeOutcome::Refused,
            (false, false) => ProbeOutcome::RequestLost,
        }
    }

    fn front_end(&self) -> SocketAddr {
        SocketAddr::new(self.way.front_end.ip, self.way.front_end.port)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What IPVS makes of a request.
    fn scheduled(probe: &Probe) -> TcpSegment {
        TcpSegment { destination: probe.way.endpoint, ..probe.request() }
    }

    #[test]
    fn a_probe_is_answered_over_its_endpoint() {
        for family in Family::BOTH {
            let mut probe = Probe::new(family, 2000, u32::MAX);
            assert_eq!(probe.outcome(), ProbeOutcome::RequestLost);
            let answer = probe.receive(&scheduled(&probe)).unwrap();
            assert_eq!((answer.destination, answer.acknowledged), (probe.client, Some(0)));
            assert_eq!(probe.outcome(), ProbeOutcome::AnswerLost);
            // Without IPVS, the answer has the wrong source.
            assert_eq!(probe.receive(&answer), None);
            assert_eq!(probe.outcome(), ProbeOutcome::AnswerLost);
            let translated = TcpSegment { source: probe.front_end(), ..answer };
            assert_eq!(probe.receive(&translated), None);
            assert_eq!((probe.outcome(), probe.is_answered()), (ProbeOutcome::Answered, true));
        }
    }

    #[test]
    fn a_refusal_of_the_node_is_no_answer() {
        let mut probe = Probe::new(Family::V4, 2000, 7);
        let TcpSegment { source, destination, .. } = probe.request();
        let refusal = TcpSegment {
            source: destination,
            destination: source,
            sequence: 0,
            acknowledged: Some(8),
            is_syn: false,
            is_reset: true,
        };
        // That of an earlier probe from this port.
        probe.receive(&TcpSegment { acknowledged: Some(7), ..refusal });
        assert_eq!(probe.outcome(), ProbeOutcome::RequestLost);
        probe.receive(&refusal);
        assert_eq!(probe.outcome(), ProbeOutcome::Refused);
    }

    #[test]
    fn segments_are_read_as_they_are_written() {
        for family in Family::BOTH {
            let mut probe = Probe::new(family, 2000, 7);
            let request = probe.request();
            let answer = probe.receive(&scheduled(&probe)).unwrap();
            for segment in [request, answer] {
                assert_eq!(TcpSegment::decode(&segment.encode().unwrap()), Some(segment));
            }
        }
    }

    proptest! {
        #[test]
        fn any_packet_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TcpSegment::decode(&bytes);
        }
    }
}
