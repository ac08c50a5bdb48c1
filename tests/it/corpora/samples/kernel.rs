//! What the agent writes to the kernel, as the kernel tells of it.

use kube_ipvs::kernel::ipvs::command;
use kube_ipvs_core::model::{
    AddressSet, Backend, Element, InterfaceSet, Interfaces, Leads, PortSet, RangeSet, Route,
    Scheduler, VirtualAddress, VirtualServer,
};
use kube_ipvs_core::plan::{FilterOperation, Operation, RouteOperation, ServerOperation};
use netlink_ipvs::ipvs::encode;
use netlink_ipvs::{Attributes, Batch, Header, Subsystem, messages};

use super::Sample;
use super::netlink::{error, message};
use crate::corpora::targets::replay::{self, IPVS_FAMILY};

/// `NFT_MSG_NEWCHAIN`, `NFT_MSG_NEWSET`, `NFT_MSG_NEWSETELEM` of nf_tables.
const NFT_NEW: [u16; 3] = [10 << 8 | 3, 10 << 8 | 9, 10 << 8 | 12];
/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_NEW`.
const CONNTRACK_NEW: u16 = 1 << 8;

pub fn all() -> Vec<Sample> {
    let sample = |target, name: &str, data| (target, name.to_owned(), data);
    let mut samples = vec![
        sample("ipvs", "servers", servers()),
        sample("ipvs", "counts", counts()),
        sample("ipvs", "refusal", error(IPVS_FAMILY, -2, "no such family")),
        sample("nft", "tables", filter([FilterOperation::CreateTables], &[])),
        sample("nft", "refusal", error(10 << 8 | 4, -1, "not permitted")),
        sample("conntrack", "entries", entries()),
        sample("conntrack", "refusal", error(CONNTRACK_NEW, -22, "unknown filter")),
    ];
    let tables = filter([FilterOperation::CreateTables], &NFT_NEW[..2]);
    for element in elements() {
        let added = filter([FilterOperation::Add(element)], &NFT_NEW[2..]);
        let of_set = sets_named(&tables, element.set());
        samples.push(sample("nft", element.set(), [of_set, added].concat()));
    }
    let all = filter(elements().into_iter().map(FilterOperation::Add), &NFT_NEW[2..]);
    samples.push(sample("nft", "elements", [tables, all].concat()));
    let routes = routes();
    samples.push(sample("notifications", "routes", routes.clone()));
    samples.push(sample("route", "addresses", addresses()));
    samples.push(sample("route", "routes", routes));
    samples.push(sample("route", "destinations", destinations()));
    let element = FilterOperation::Add(elements()[0]);
    samples.push(sample("notifications", "element", filter([element], &NFT_NEW[2..])));
    samples
}

fn address(text: &str) -> VirtualAddress {
    text.parse().unwrap()
}

fn servers() -> Vec<u8> {
    let mut batch = Batch::default();
    let (v4, v6) = (address("10.96.0.10:53/udp"), address("[fd00::a]:443/tcp"));
    let server = |address, scheduler, affinity_seconds| {
        ServerOperation::Add(VirtualServer {
            flags: 0,
            affinity_seconds,
            ..VirtualServer::new(address, scheduler)
        })
    };
    let backend =
        |ip: &str, port| Backend { address: ip.parse().unwrap(), port, weight: 1, local: false };
    for operation in [
        server(v4, Scheduler::Rr, None),
        ServerOperation::AddReal(v4, backend("10.244.1.7", 5353), 0),
        ServerOperation::AddReal(v4, backend("10.244.1.8", 5353), 0),
        server(v6, Scheduler::Mh, Some(10_800)),
        ServerOperation::AddReal(v6, backend("fd00:244::7", 8443), 0),
    ] {
        encode(&mut batch, IPVS_FAMILY, &command(&operation));
    }
    batch.bytes().to_vec()
}

/// A virtual server with `IPVS_SVC_ATTR_STATS64`, and a real server with connections.
fn counts() -> Vec<u8> {
    let server = message(IPVS_FAMILY, &[1, 1, 0, 0], |message| {
        message.nest(1, |server| {
            server.u16(1, 2);
            server.u16(2, 6);
            server.ip(3, [10, 96, 0, 1].into());
            server.u16_be(4, 443);
            server.text(6, "wlc");
            server.bytes(7, &[2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            server.u32(8, 0);
            server.nest(12, |counts| {
                (1..=5).for_each(|kind| counts.bytes(kind, &(u64::from(kind) << 33).to_ne_bytes()));
            });
        });
    });
    let real_server = message(IPVS_FAMILY, &[5, 1, 0, 0], |message| {
        message.nest(2, |real| {
            real.ip(1, [10, 244, 1, 5].into());
            real.u16_be(2, 8443);
            real.u32(3, 0);
            real.u32(4, 1);
            (7..=9).for_each(|kind| real.u32(kind, u32::from(kind)));
            real.u16(11, 2);
        });
    });
    [server, real_server].concat()
}

fn elements() -> Vec<Element> {
    let (lb4, lb6) = (address("192.0.2.1:80"), address("[2001:db8::1]:80"));
    let ip = |text: &str| text.parse().unwrap();
    let net = |text: &str| text.parse().unwrap();
    vec![
        Element::Range(RangeSet::ServiceRanges, net("10.96.0.0/12")),
        Element::Range(RangeSet::Reachable, net("ffff::/16")),
        Element::Range(RangeSet::Pods, net("0.0.0.0/0")),
        Element::Range(RangeSet::Insiders, net("10.244.1.0/25")),
        Element::Interfaces(InterfaceSet::Pods, Interfaces::Prefixed("cali".parse().unwrap())),
        Element::Interfaces(
            InterfaceSet::Insiders,
            Interfaces::Named("fifteen-letters".parse().unwrap()),
        ),
        Element::Address(AddressSet::ClusterIps, ip("10.96.0.1")),
        Element::Address(AddressSet::Pools, ip("10.96.0.1")),
        Element::Address(AddressSet::Images, ip("fc00:96::a")),
        Element::Address(AddressSet::FrontendIps, ip("2001:db8::1")),
        Element::Address(AddressSet::NodePortIps, ip("192.0.2.9")),
        Element::Lead(Leads::Everybody, address("0.0.0.0:30053/udp"), ip("10.96.0.1"), 53),
        Element::Address(AddressSet::Hairpin, ip("fd00:244:1::7")),
        Element::Lead(Leads::Outsiders, lb4, ip("10.96.0.1"), 8080),
        Element::Lead(Leads::Insiders, lb6, ip("fc00:96::a"), 8080),
        Element::Port(PortSet::Masqueraded, lb6),
        Element::Port(PortSet::MasqueradedNode, address("192.0.2.9:9/sctp")),
        Element::Port(PortSet::Restricted, lb4),
        Element::Allowed(lb4, net("198.51.100.0/24")),
        Element::Port(PortSet::Dropped, address("[2001:db8::9]:9/sctp")),
        Element::Port(PortSet::Refused, address("192.0.2.9:10/tcp")),
        Element::Port(PortSet::Former, address("203.0.113.9:80/tcp")),
    ]
}

/// What is sent for these; of these kinds only, unless there are none.
fn filter(operations: impl IntoIterator<Item = FilterOperation>, kinds: &[u16]) -> Vec<u8> {
    let operations: Vec<_> = operations.into_iter().map(Operation::Filter).collect();
    let (mut kernel, sent) = replay::kernel(Subsystem::Netfilter, &[]);
    kernel.apply(&operations);
    let sent = sent.lock().unwrap();
    picked(&sent, |header, _| kinds.is_empty() || kinds.contains(&header.kind))
}

/// Of the sets only the one of this name, of either family.
fn sets_named(tables: &[u8], name: &str) -> Vec<u8> {
    let is_named = |payload: &[u8]| {
        payload.windows(name.len() + 1).any(|part| {
            part.starts_with(name.as_bytes()) && matches!(part.last(), Some(0 | b'4' | b'6'))
        })
    };
    picked(tables, |header, payload| header.kind == NFT_NEW[1] && is_named(payload))
}

fn picked(said: &[u8], is_meant: impl Fn(Header, &[u8]) -> bool) -> Vec<u8> {
    let mut picked = Vec::new();
    for (header, payload) in messages(said).filter(|(header, payload)| is_meant(*header, payload)) {
        replay::push(&mut picked, header, payload);
    }
    picked
}

/// Our device and routes, and the rules of an earlier version; and an address, which has a header of
/// eight bytes.
fn routes() -> Vec<u8> {
    let mut said = device();
    let (mut kernel, sent) = replay::kernel(Subsystem::Route, &device());
    let route = |prefix: &str, source: Option<&str>| {
        let source = source.map(|source| source.parse().unwrap());
        RouteOperation::Add(Route { prefix: prefix.parse().unwrap(), source }).into()
    };
    kernel.apply(&[
        Operation::DeleteEarlier,
        route("10.96.0.0/12", None),
        route("192.0.2.1/32", Some("192.0.2.9")),
        route("fd00:96::/112", None),
    ]);
    // Of requests only those that say what there is.
    said.extend(picked(&sent.lock().unwrap(), |header, _| header.kind % 4 == 0));
    said
}

/// `RTM_NEWLINK`: `struct ifinfomsg`, `IFLA_IFNAME`, `IFLA_LINKINFO` with its kind.
fn device() -> Vec<u8> {
    message(16, &[0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], |link| {
        link.text(3, "kube-ipvs0");
        link.nest(18, |info| info.text(1, "dummy"));
    })
}

/// `RTM_NEWADDR`: `struct ifaddrmsg`, `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_LABEL`, `IFA_FLAGS`.
fn addresses() -> Vec<u8> {
    let v4 = message(20, &[2, 24, 128, 0, 2, 0, 0, 0], |it| {
        it.ip(1, [192, 0, 2, 1].into());
        it.ip(2, [192, 0, 2, 1].into());
        it.text(3, "eth0");
        it.u32(8, 128);
    });
    let v6 = message(20, &[10, 64, 0, 0, 2, 0, 0, 0], |it| {
        it.ip(1, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 9].into());
        it.u32(8, 0x40);
    });
    let done = message(Header::DONE, &[0; 4], |_| {});
    [v4, v6, done].concat()
}

/// `RTM_NEWROUTE`: `struct rtmsg`, `RTA_DST`, `RTA_OIF`. One of each family with neighbours that can
/// be joined, a default route, one that refuses.
fn destinations() -> Vec<u8> {
    let route = |family, length, kind, to: Option<std::net::IpAddr>| {
        message(24, &[family, length, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0], |it| {
            to.into_iter().for_each(|ip| it.ip(1, ip));
            it.u32(4, 2);
        })
    };
    [
        route(2, 0, 1, None),
        route(2, 24, 1, Some([10, 244, 2, 0].into())),
        route(2, 24, 1, Some([10, 244, 3, 0].into())),
        route(2, 32, 6, Some([10, 245, 0, 1].into())),
        route(10, 64, 1, Some([0xfd00, 0x244, 0, 1, 0, 0, 0, 0].into())),
        message(Header::DONE, &[0; 4], |_| {}),
    ]
    .concat()
}

/// One entry of each family, answered by an endpoint.
fn entries() -> Vec<u8> {
    type Ends = [(std::net::IpAddr, u16); 2];
    let tuple = |message: &mut Attributes<'_>, kind, [source, destination]: Ends| {
        // CTA_IP_V4_SRC, CTA_IP_V6_SRC; the destination's follow.
        let first = if source.0.is_ipv4() { 1 } else { 3 };
        message.nest(kind, |tuple| {
            tuple.nest(1, |ip| {
                ip.ip(first, source.0);
                ip.ip(first + 1, destination.0);
            });
            tuple.nest(2, |ports| {
                ports.bytes(1, &[17]);
                ports.u16_be(2, source.1);
                ports.u16_be(3, destination.1);
            });
        });
    };
    let entry = |family, original: Ends, reply: Ends| {
        message(CONNTRACK_NEW, &[family, 0, 0, 0], |message| {
            tuple(message, 1, original);
            tuple(message, 2, reply);
            message.u32_be(12, 7);
        })
    };
    let v4 = |last, port| ([10, 96, 0, last].into(), port);
    let v6 = |last, port| ([0xfd00, 0, 0, 0, 0, 0, 0, last].into(), port);
    let endpoint = ([10, 244, 1, 5].into(), 5353);
    [
        entry(2, [v4(1, 4000), v4(10, 53)], [endpoint, v4(1, 4000)]),
        entry(2, [v4(1, 4001), v4(11, 53)], [endpoint, v4(1, 4001)]),
        entry(10, [v6(1, 4000), v6(10, 53)], [v6(5, 53), v6(1, 4000)]),
    ]
    .concat()
}
