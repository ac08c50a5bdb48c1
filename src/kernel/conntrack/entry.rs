//! Entries of the connection tracking table, as ctnetlink sends them.

use std::net::SocketAddr;

use kube_ipvs_core::model::{Protocol, VirtualAddress};
use kube_ipvs_core::plan::Carrier;
use netlink_ipvs::{Attribute, attributes};

use crate::kernel::family::netfilter_message;
use crate::kernel::nft::constants::conntrack::DESTINATION_TRANSLATED;

pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_TIMEOUT: u16 = 7;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
pub(super) const CTA_PROTO_NUM: u16 = 1;
pub(super) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_SCTP: u16 = 3;
/// `CTA_PROTOINFO_TCP_STATE`, `CTA_PROTOINFO_SCTP_STATE`
const CTA_PROTOINFO_STATE: u16 = 1;
/// `TCP_CONNTRACK_TIME_WAIT`, `TCP_CONNTRACK_CLOSE`
const TCP_CLOSED: [u8; 2] = [7, 8];
/// `SCTP_CONNTRACK_CLOSED`, `SCTP_CONNTRACK_SHUTDOWN_ACK_SENT`
const SCTP_CLOSED: [u8; 2] = [1, 7];

/// The parts of an entry that decide on its deletion and that identify it to the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ConntrackEntry {
    /// `AF_INET` or `AF_INET6`.
    pub(super) family: u8,
    pub(super) protocol: u8,
    pub(super) client: SocketAddr,
    /// The destination of the client's packets.
    pub(super) destination: SocketAddr,
    /// The source of the replies.
    pub(super) replier: SocketAddr,
    pub(super) carrier: Carrier,
    /// `IPS_*`
    pub(super) status: u32,
    /// `TCP_CONNTRACK_*` or `SCTP_CONNTRACK_*`; the kernel leaves it out of an offloaded connection, as
    /// it does the timeout.
    pub(super) state: Option<u8>,
    pub(super) seconds_left: Option<u32>,
    /// The attributes that identify this entry, as received: original tuple, zone and id. The id
    /// distinguishes it from a later entry with the same tuple.
    pub(super) identity: Vec<(u16, Vec<u8>)>,
}

impl ConntrackEntry {
    /// Returns the destination of the client's packets, if it may be a front end.
    pub(super) fn frontend(&self) -> Option<VirtualAddress> {
        let protocol = Protocol::from_number(self.protocol)?;
        let (ip, port) = (self.destination.ip(), self.destination.port());
        Some(VirtualAddress { ip, port, protocol })
    }

    /// Reads the body of IPCTNL_MSG_CT_NEW. Returns `None` for an entry without ports or in an
    /// unknown form.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let (family, rest) = netfilter_message(body)?;
        let (mut original, mut replier) = (None, None);
        let (mut status, mut state, mut seconds_left) = (0, None, None);
        let mut identity = Vec::with_capacity(3);
        for attribute in attributes(rest) {
            match attribute.kind {
                CTA_TUPLE_ORIG => original = Some(tuple(attribute)?),
                CTA_TUPLE_REPLY => replier = Some(tuple(attribute)?.0),
                CTA_STATUS => status = attribute.u32_be()?,
                CTA_PROTOINFO => state = state_in(attribute),
                CTA_TIMEOUT => seconds_left = attribute.u32_be(),
                _ => {}
            }
            if matches!(attribute.kind, CTA_TUPLE_ORIG | CTA_ZONE | CTA_ID) {
                identity.push((attribute.kind, attribute.value.to_owned()));
            }
        }
        let (client, destination, protocol) = original?;
        // IPVS translates by itself, which leaves no trace.
        let is_translated = status & DESTINATION_TRANSLATED != 0;
        Some(Self {
            family,
            protocol,
            client,
            destination,
            replier: replier?,
            carrier: if is_translated { Carrier::Tracking } else { Carrier::Ipvs },
            status,
            state,
            seconds_left,
            identity,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        let closed: &[u8] = match Protocol::from_number(self.protocol) {
            Some(Protocol::Tcp) => &TCP_CLOSED,
            Some(Protocol::Sctp) => &SCTP_CLOSED,
            _ => &[],
        };
        self.state.is_some_and(|state| closed.contains(&state))
    }
}

fn state_in(info: Attribute<'_>) -> Option<u8> {
    let protocol = info.find(CTA_PROTOINFO_TCP).or_else(|| info.find(CTA_PROTOINFO_SCTP))?;
    protocol.find(CTA_PROTOINFO_STATE)?.value.first().copied()
}

/// Reads source, destination and protocol.
fn tuple(tuple: Attribute<'_>) -> Option<(SocketAddr, SocketAddr, u8)> {
    let (mut source, mut destination) = (None, None);
    let (mut source_port, mut destination_port, mut protocol) = (None, None, None);
    for attribute in tuple.nested() {
        for part in attribute.nested() {
            match (attribute.kind, part.kind) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC) => source = part.ipv4(),
                (CTA_TUPLE_IP, CTA_IP_V4_DST) => destination = part.ipv4(),
                (CTA_TUPLE_IP, CTA_IP_V6_SRC) => source = part.ipv6(),
                (CTA_TUPLE_IP, CTA_IP_V6_DST) => destination = part.ipv6(),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = part.value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => source_port = part.u16_be(),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => destination_port = part.u16_be(),
                _ => {}
            }
        }
    }
    let source = SocketAddr::new(source?, source_port?);
    Some((source, SocketAddr::new(destination?, destination_port?), protocol?))
}

#[cfg(test)]
mod tests {
    use netlink_ipvs::Attributes;
    use proptest::prelude::*;

    use super::*;

    /// An entry from `10.0.0.1:4000` to `10.96.0.10:53`, answered by `10.244.1.5:5353`.
    fn body() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut message = Attributes::new(&mut bytes);
        message.raw(&[2, 0, 0, 0]);
        let mut tuple = |kind, source: [u8; 4], source_port, destination: [u8; 4], port| {
            message.nest(kind, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| {
                    ip.bytes(CTA_IP_V4_SRC, &source);
                    ip.bytes(CTA_IP_V4_DST, &destination);
                });
                tuple.nest(CTA_TUPLE_PROTO, |ports| {
                    ports.bytes(CTA_PROTO_NUM, &[17]);
                    ports.u16_be(CTA_PROTO_SRC_PORT, source_port);
                    ports.u16_be(CTA_PROTO_DST_PORT, port);
                });
            });
        };
        tuple(CTA_TUPLE_ORIG, [10, 0, 0, 1], 4000, [10, 96, 0, 10], 53);
        tuple(CTA_TUPLE_REPLY, [10, 244, 1, 5], 5353, [10, 0, 0, 1], 4000);
        message.u32_be(CTA_STATUS, 0x1ae);
        message.u32_be(CTA_ID, 7);
        bytes
    }

    #[test]
    fn an_entry_is_read() {
        let entry = ConntrackEntry::decode(&body());
        let summary = entry.as_ref().map(|e| {
            let kinds: Vec<u16> = e.identity.iter().map(|(kind, _)| *kind).collect();
            (e.family, e.protocol, e.destination.to_string(), e.replier.to_string(), kinds)
        });
        let expected = (2, 17, "10.96.0.10:53".into(), "10.244.1.5:5353".into(), vec![1, 12]);
        assert_eq!(summary, Some(expected));
        assert_eq!(entry.map(|entry| entry.carrier), Some(Carrier::Tracking));
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ConntrackEntry::decode(&body);
        }

        #[test]
        fn no_truncated_message_causes_a_panic(
            at in 0usize..130,
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut body = body();
            body.truncate(at);
            body.extend(tail);
            let _ = ConntrackEntry::decode(&body);
        }
    }
}
