//! Messages of the kernel that nothing of ours writes.

use kube_ipvs::kernel::netlink::{Attributes, Header};

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
        sample("route", "error", error(22, -1, "not permitted")),
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
