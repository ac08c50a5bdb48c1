//! Messages of the kernel that nothing of ours writes.

use std::net::{IpAddr, Ipv4Addr};

use netlink_ipvs::{Attributes, Header};

use super::Sample;
use crate::corpora::targets::replay;

/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS`.
const CAPPED: u16 = 0x100;
const WORDS: u16 = 0x200;

pub fn all() -> Vec<Sample> {
    let sample = |target, name: &str, data| (target, name.to_owned(), data);
    vec![
        sample("netlink", "error", error(30, -2, "no such thing")),
        sample(
            "netlink",
            "dump",
            [chain(), rule(), message(Header::DONE, &[0; 4], |_| {})].concat(),
        ),
        sample("leftovers", "chain", chain()),
        sample("leftovers", "rule", rule()),
        sample("leftovers", "set", set()),
        sample("firewall", "docker", [base_chain("FORWARD", 2), rules("FORWARD", docker)].concat()),
        sample("firewall", "strict", [base_chain("INPUT", 1), rules("INPUT", strict)].concat()),
        sample("firewall", "other", [chain(), rule()].concat()),
        sample("firewall", "error", error(10 << 8 | 4, -1, "not permitted")),
        sample("listening", "sockets", sockets()),
        sample("route", "error", error(22, -1, "not permitted")),
        sample("trace", "journey", journey()),
    ]
}

/// A message: header, fixed part, attributes.
pub fn message(kind: u16, fixed: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut payload = fixed.to_vec();
    fill(&mut Attributes::new(&mut payload));
    let mut bytes = Vec::new();
    replay::push(&mut bytes, Header { kind, flags: 2, sequence: 0, port: 0 }, &payload);
    bytes
}

/// A refusal with the kernel's words, of a request of this kind.
pub fn error(request: u16, number: i32, words: &str) -> Vec<u8> {
    let mut payload = number.to_ne_bytes().to_vec();
    replay::push(&mut payload, Header { kind: request, flags: 5, sequence: 0, port: 0 }, &[]);
    Attributes::new(&mut payload).text(1, words);
    let mut bytes = Vec::new();
    let header = Header { kind: Header::ERROR, flags: CAPPED | WORDS, sequence: 0, port: 0 };
    replay::push(&mut bytes, header, &payload);
    bytes
}

/// A base chain of `iptables-nft`.
fn chain() -> Vec<u8> {
    message(10 << 8 | 3, &[2, 0, 0, 0], |chain| {
        chain.text(1, "filter");
        chain.text(3, "KUBE-FORWARD");
        chain.nest(4, |hook| {
            hook.u32_be(1, 2);
            hook.u32_be(2, 0);
        });
        chain.u32_be(5, 0);
        chain.u32_be(6, 3);
        chain.text(7, "filter");
    })
}

/// A rule that jumps to a chain of kube-proxy's.
fn rule() -> Vec<u8> {
    message(10 << 8 | 6, &[2, 0, 0, 0], |rule| {
        rule.text(1, "nat");
        rule.text(2, "PREROUTING");
        rule.bytes(3, &7u64.to_be_bytes());
        rule.nest(4, |list| {
            list.nest(1, |expression| {
                expression.text(1, "immediate");
                expression.nest(2, |data| {
                    data.nest(2, |value| value.nest(2, |verdict| verdict.text(2, "KUBE-SERVICES")));
                });
            });
        });
    })
}

/// A set of node ports.
fn set() -> Vec<u8> {
    message(6 << 8 | 7, &[2, 0, 0, 0], |set| {
        set.text(2, "KUBE-NODE-PORT-TCP");
        set.nest(8, |list| {
            for port in [30080, 30443] {
                list.nest(7, |element| element.u16_be(4, port));
            }
        });
    })
}

/// A base chain of `filter` that drops by policy.
fn base_chain(name: &str, hook: u32) -> Vec<u8> {
    message(10 << 8 | 3, &[2, 0, 0, 0], |chain| {
        chain.text(1, "filter");
        chain.text(3, name);
        chain.nest(4, |it| it.u32_be(1, hook));
        chain.u32_be(5, 0);
        chain.text(7, "filter");
    })
}

/// An expression: its name and its data.
type Expression = (&'static str, fn(&mut Attributes<'_>));

/// A rule of a chain for each of these lists of expressions.
fn rules<const N: usize>(chain: &str, all: fn() -> [Vec<Expression>; N]) -> Vec<u8> {
    let rule = |expressions: Vec<Expression>| {
        message(10 << 8 | 6, &[2, 0, 0, 0], |rule| {
            rule.text(1, "filter");
            rule.text(2, chain);
            rule.nest(4, |list| {
                for (name, data) in expressions {
                    list.nest(1, |expression| {
                        expression.text(1, name);
                        expression.nest(2, data);
                    });
                }
            });
        })
    };
    all().into_iter().flat_map(rule).collect()
}

const ACCEPT: Expression = ("immediate", |data| verdict(data, 1));
const DROP: Expression = ("immediate", |data| verdict(data, 0));

fn verdict(data: &mut Attributes<'_>, code: u32) {
    data.u32_be(1, 0);
    data.nest(2, |value| value.nest(2, |verdict| verdict.u32_be(1, code)));
}

/// `-m conntrack --ctstate`, and a jump to another chain by `xt`.
fn docker() -> [Vec<Expression>; 2] {
    let states: Expression = ("match", |data| {
        let mut info = [0; 160];
        // `XT_CONNTRACK_STATE`; established and translated.
        info[146..152]
            .copy_from_slice([1_u16, 0, 1 << 1 | 1 << 7].map(u16::to_ne_bytes).as_flattened());
        data.text(1, "conntrack");
        data.u32_be(2, 3);
        data.bytes(3, &info);
    });
    [vec![states, ("counter", |_| {}), ACCEPT], vec![("target", |data| data.text(1, "REJECT"))]]
}

/// `ct state established accept`, `ct status dnat accept`, `ip daddr 10.96.0.0/12 accept`, and a drop.
fn strict() -> [Vec<Expression>; 4] {
    fn value(data: &mut Attributes<'_>, kind: u16, value: &[u8]) {
        data.nest(kind, |it| it.bytes(1, value));
    }
    fn masked(data: &mut Attributes<'_>, mask: &[u8]) {
        value(data, 4, mask);
        value(data, 5, &vec![0; mask.len()]);
    }
    const IS_ANY: Expression = ("cmp", |data| {
        data.u32_be(2, 1);
        value(data, 3, &[0; 4]);
    });
    [
        vec![
            ("ct", |data| data.u32_be(2, 0)),
            ("bitwise", |data| masked(data, &2_u32.to_ne_bytes())),
            IS_ANY,
            ACCEPT,
        ],
        vec![
            ("ct", |data| data.u32_be(2, 2)),
            ("bitwise", |data| masked(data, &32_u32.to_ne_bytes())),
            IS_ANY,
            ACCEPT,
        ],
        vec![
            ("payload", |data| {
                data.u32_be(2, 1);
                data.u32_be(3, 16);
                data.u32_be(4, 4);
            }),
            ("bitwise", |data| masked(data, &[255, 240, 0, 0])),
            ("cmp", |data| {
                data.u32_be(2, 0);
                value(data, 3, &[10, 96, 0, 0]);
            }),
            ACCEPT,
        ],
        vec![DROP],
    ]
}

/// What sock_diag tells (`struct inet_diag_msg`): a socket of each family, one for both, a mapped one.
fn sockets() -> Vec<u8> {
    let socket = |ip: IpAddr, only_v6: Option<u8>| {
        let mut fixed = [0; 72];
        fixed[0] = if ip.is_ipv4() { 2 } else { 10 };
        fixed[1] = 10;
        fixed[4..6].copy_from_slice(&6443_u16.to_be_bytes());
        match ip {
            IpAddr::V4(ip) => fixed[8..12].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => fixed[8..24].copy_from_slice(&ip.octets()),
        }
        message(20, &fixed, |it| only_v6.iter().for_each(|only| it.bytes(11, &[*only])))
    };
    [
        socket([192, 0, 2, 1].into(), None),
        socket([0_u16; 8].into(), Some(0)),
        socket([0xfd00, 0, 0, 0, 0, 0, 0, 1].into(), Some(1)),
        socket(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), Some(0)),
        message(Header::DONE, &[0; 4], |_| {}),
    ]
    .concat()
}

/// A packet that the table of `kube-ipvs trace` marks, that IPVS sends on, and that a policy drops.
fn journey() -> Vec<u8> {
    const OURS: &str = "kube-ipvs-trace";
    let chain = |table: &str, name: &str, hook| {
        message(10 << 8 | 3, &[2, 0, 0, 0], |chain| {
            chain.text(1, table);
            chain.text(3, name);
            chain.nest(4, |it| {
                it.u32_be(1, hook);
                it.u32_be(2, 0);
            });
            chain.text(7, "filter");
        })
    };
    // `NFTA_TRACE_*`: with a handle it is a rule, and otherwise a policy that drops.
    let event = |table: &str, name: &str, handle: Option<u64>, to: [u8; 4]| {
        message(10 << 8 | 17, &[2, 0, 0, 0], |event| {
            event.u32_be(4, if handle.is_some() { 3 } else { 1 });
            event.u32_be(6, 99);
            event.text(2, name);
            event.text(1, table);
            match handle {
                Some(handle) => {
                    event.bytes(3, &handle.to_be_bytes());
                    event.nest(5, |verdict| verdict.u32_be(1, u32::MAX));
                }
                None => event.u32_be(16, u32::from(table == OURS)),
            }
            event.u32_be(10, 2);
            let mut header = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 244, 1, 12];
            header.extend(to);
            event.bytes(8, &header);
            event.bytes(9, &[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        })
    };
    let (cluster_ip, endpoint) = ([10, 96, 0, 20], [10, 244, 2, 13]);
    [
        chain(OURS, "prerouting-begin", 0),
        chain(OURS, "input-begin", 1),
        chain(OURS, "output-begin", 3),
        chain("filter", "OUTPUT", 3),
        event(OURS, "prerouting-begin", Some(2), cluster_ip),
        event(OURS, "input-begin", None, cluster_ip),
        event(OURS, "output-begin", None, endpoint),
        event("filter", "OUTPUT", None, endpoint),
    ]
    .concat()
}
