//! The table that marks the packets of one connection.

use std::net::IpAddr;

use kube_ipvs_core::model::{Protocol, VirtualAddress};
use netlink_ipvs::{Attributes, Batch};

use super::TABLE;
use crate::kernel::nft::constants::{
    chain as nfta_chain, conntrack, expression, set as nfta_set, table as nfta_table,
};
use crate::kernel::nft::encode;
use crate::kernel::nft::expression::{Expressions, FIRST, Operand};
use crate::kernel::nft::request::{CREATE, push};
use crate::kernel::nft::table::{BaseChain, TableFamily};

/// `IP_CT_DIR_ORIGINAL`
const ORIGINAL: Option<u8> = Some(0);
/// `IP_CT_DIR_REPLY`
const REPLY: u8 = 1;
/// `SYN`, and `ACK` with it, among a TCP segment's flags.
const SYN: u8 = 1 << 1;
const SYN_ACK: u8 = SYN | 1 << 4;
/// The set of the client's port. It has room for one, so the first connection is the only one.
const FLOW: &str = "flow";
/// Packets of each direction that are reported in a second, so that a busy connection costs little.
const PACKETS: u32 = 10;

/// Before defragmentation and every other program.
const FIRST_OF_ALL: i32 = -500;
/// After connection tracking has found the connection.
const TRACKED: i32 = -199;
/// After the translation of destinations, before IPVS takes the packet.
const TRANSLATED: i32 = -99;
/// After all but connection tracking's last step.
const LAST: i32 = i32::MAX - 1;

/// What a chain is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatchPoint {
    /// Marks the client's packets.
    Request,
    /// Marks the answers to them.
    Answer,
    /// Shows what a marked packet has become.
    Watch,
    /// The same where a packet leaves the node.
    Leaving,
    /// The same where a process of the node gets the packet.
    Delivery,
}

/// The chains with their hooks (`NF_INET_*`) and priorities. Each makes the kernel report a packet's
/// headers, where no other program has a chain, too.
pub(crate) const CHAINS: [(&str, u32, i32, WatchPoint); 12] = [
    ("prerouting-begin", 0, FIRST_OF_ALL, WatchPoint::Request),
    ("prerouting-tracked", 0, TRACKED, WatchPoint::Answer),
    ("prerouting-end", 0, LAST, WatchPoint::Watch),
    ("input-begin", 1, FIRST_OF_ALL, WatchPoint::Watch),
    ("input-end", 1, LAST, WatchPoint::Delivery),
    ("forward-begin", 2, FIRST_OF_ALL, WatchPoint::Watch),
    ("forward-end", 2, LAST, WatchPoint::Watch),
    ("output-begin", 3, FIRST_OF_ALL, WatchPoint::Request),
    ("output-tracked", 3, TRACKED, WatchPoint::Answer),
    ("output-translated", 3, TRANSLATED, WatchPoint::Watch),
    ("output-end", 3, LAST, WatchPoint::Watch),
    ("postrouting-end", 4, LAST, WatchPoint::Leaving),
];

/// The connections of which the first is traced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TracedFlow {
    /// Any client, if it is not given.
    pub client: Option<IpAddr>,
    /// The client's port, if it is known.
    pub port: Option<u16>,
    pub destination: VirtualAddress,
}

/// Writes the requests that make the table.
pub(super) fn create(batch: &mut Batch, flow: &TracedFlow, flags: u32) {
    let family = TableFamily::from(flow.destination.family());
    // `NFT_MSG_*`
    let mut push = |kind, body: &dyn Fn(&mut Attributes<'_>)| {
        push(batch, (kind, CREATE), (family, TABLE), body);
    };
    push(0, &|to| to.u32_be(nfta_table::FLAGS, flags));
    push(9, &new_set);
    for (name, hook, priority, point) in CHAINS {
        push(3, &|to| {
            to.text(nfta_chain::NAME, name);
            encode::base_chain(to, BaseChain { kind: "filter", hook, priority });
        });
        let rule = match point {
            WatchPoint::Request => request(flow, family),
            WatchPoint::Answer => answer(flow),
            _ => continue,
        };
        push(6, &|to| encode::rule(to, name, &rule));
    }
}

fn new_set(to: &mut Attributes<'_>) {
    to.text(nfta_set::NAME, FLOW);
    to.u32_be(nfta_set::FLAGS, nfta_set::FLAG_DYNAMIC);
    // `inet_service`
    to.u32_be(nfta_set::KEY_TYPE, 13);
    to.u32_be(nfta_set::KEY_LEN, 2);
    to.u32_be(nfta_set::ID, 1);
    to.nest(nfta_set::DESCRIPTION, |to| to.u32_be(nfta_set::DESCRIPTION_SIZE, 1));
}

/// The first packets of the client's connection: of TCP those that open one.
fn request(flow: &TracedFlow, family: TableFamily) -> Expressions {
    const NETWORK: u32 = expression::PAYLOAD_NETWORK_HEADER;
    const TRANSPORT: u32 = expression::PAYLOAD_TRANSPORT_HEADER;
    let (source, destination) = if family == TableFamily::Ip6 { (8, 24) } else { (12, 16) };
    let mut rule = Expressions::default();
    rule.require_ip(Operand::Payload(NETWORK, destination), flow.destination.ip);
    if let Some(client) = flow.client {
        rule.require_ip(Operand::Payload(NETWORK, source), client);
    }
    rule.require(Operand::TRANSPORT_PROTOCOL, &[flow.destination.protocol.number()]);
    rule.require(Operand::Payload(TRANSPORT, 2), &flow.destination.port.to_be_bytes());
    if let Some(port) = flow.port {
        rule.require(Operand::Payload(TRANSPORT, 0), &port.to_be_bytes());
    }
    if flow.destination.protocol == Protocol::Tcp {
        rule.load(Operand::Payload(TRANSPORT, 13), 1, FIRST);
        rule.mask(FIRST, &[SYN_ACK]);
        rule.compare(expression::COMPARE_EQUAL, &[SYN]);
    }
    rule.load(Operand::Payload(TRANSPORT, 0), 2, FIRST);
    rule.add_to(FLOW);
    rule.limit(PACKETS);
    rule.trace();
    rule
}

/// The answers to the connection, errors of ICMP among them. Connection tracking knows what the client
/// has asked for.
fn answer(flow: &TracedFlow) -> Expressions {
    let family = flow.destination.family();
    let of = |keys: [u32; 2]| Operand::Conntrack(*family.pick(&keys), ORIGINAL);
    let mut rule = Expressions::default();
    rule.require(Operand::Conntrack(conntrack::DIRECTION, None), &[REPLY]);
    rule.require_ip(of(conntrack::DESTINATION), flow.destination.ip);
    if let Some(client) = flow.client {
        rule.require_ip(of(conntrack::SOURCE), client);
    }
    let protocol = flow.destination.protocol.number();
    rule.require(Operand::Conntrack(conntrack::PROTOCOL, ORIGINAL), &[protocol]);
    let port = flow.destination.port.to_be_bytes();
    rule.require(Operand::Conntrack(conntrack::DESTINATION_PORT, ORIGINAL), &port);
    rule.load(Operand::Conntrack(conntrack::SOURCE_PORT, ORIGINAL), 2, FIRST);
    rule.look_up(FLOW, false, false);
    rule.limit(PACKETS);
    rule.trace();
    rule
}
