//! Expressions: the kernel's name for the instructions of a rule. They work on registers, and the
//! first expression that does not match ends the rule.

use std::net::IpAddr;

use netlink_ipvs::Attributes;

use super::constants::{DATA_VERDICT, LIST_ELEMENT, expression as nfta, rule, verdict};
use super::encode::data;

/// `NFT_REG32_00`, the first register: values to compare and keys begin here. A register has 32
/// bits; longer values take several.
pub(super) const FIRST: u32 = 8;
/// `NFT_REG_2`, the register that `nft` uses for a second value.
const SECOND: u32 = FIRST + 4;

/// A value that can be loaded into registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    /// Bytes of a header (`NFT_PAYLOAD_*_HEADER`) from an offset.
    Payload(u32, u32),
    /// A property of the packet (`NFT_META_*`).
    Meta(u32),
    /// A property of the connection (`NFT_CT_*`), if necessary in a direction (`IP_CT_DIR_*`).
    Conntrack(u32, Option<u8>),
    /// The type (`RTN_*`) of the packet's source or destination address (`NFTA_FIB_F_*`).
    AddressType(u32),
    /// A property of the receiving socket (`NFT_SOCKET_*`).
    Socket(u32),
    /// A random number below a limit.
    Random(u32),
}

/// The expressions of a rule, encoded for the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Expressions(Vec<u8>);

impl Operand {
    /// `NFT_META_L4PROTO`
    pub(super) const TRANSPORT_PROTOCOL: Self = Self::Meta(16);
}

impl Expressions {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn push(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        Attributes::new(&mut self.0).nest(LIST_ELEMENT, |to| {
            to.text(rule::EXPRESSION_NAME, name);
            to.nest(rule::EXPRESSION_DATA, fill);
        });
    }

    /// Loads `len` bytes into `register` and those after it.
    pub(super) fn load(&mut self, from: Operand, len: u32, register: u32) {
        match from {
            Operand::Payload(header, offset) => self.push("payload", |to| {
                to.u32_be(nfta::PAYLOAD_TO, register);
                to.u32_be(nfta::PAYLOAD_BASE, header);
                to.u32_be(nfta::PAYLOAD_OFFSET, offset);
                to.u32_be(nfta::PAYLOAD_LEN, len);
            }),
            Operand::Meta(key) => self.push("meta", |to| {
                to.u32_be(nfta::META_TO, register);
                to.u32_be(nfta::META_KEY, key);
            }),
            Operand::Conntrack(key, direction) => self.push("ct", |to| {
                to.u32_be(nfta::CT_TO, register);
                to.u32_be(nfta::CT_KEY, key);
                if let Some(direction) = direction {
                    to.bytes(nfta::CT_DIRECTION, &[direction]);
                }
            }),
            Operand::AddressType(end) => self.push("fib", |to| {
                to.u32_be(nfta::FIB_TO, register);
                to.u32_be(nfta::FIB_RESULT, nfta::FIB_RESULT_ADDRESS_TYPE);
                to.u32_be(nfta::FIB_FLAGS, end);
            }),
            Operand::Random(modulus) => self.push("numgen", |to| {
                to.u32_be(nfta::NUMBER_TO, register);
                to.u32_be(nfta::NUMBER_MODULUS, modulus);
                to.u32_be(nfta::NUMBER_TYPE, nfta::NUMBER_TYPE_RANDOM);
            }),
            Operand::Socket(key) => self.push("socket", |to| {
                to.u32_be(nfta::SOCKET_KEY, key);
                to.u32_be(nfta::SOCKET_TO, register);
            }),
        }
    }

    /// Writes the first register to a header, and updates the checksum at offset `checksum` of that
    /// header; with `is_address`, also the transport protocol's checksum.
    pub(super) fn store(
        &mut self,
        (header, offset): (u32, u32),
        len: u32,
        checksum: Option<u32>,
        is_address: bool,
    ) {
        self.push("payload", |to| {
            to.u32_be(nfta::PAYLOAD_FROM, FIRST);
            to.u32_be(nfta::PAYLOAD_BASE, header);
            to.u32_be(nfta::PAYLOAD_OFFSET, offset);
            to.u32_be(nfta::PAYLOAD_LEN, len);
            if let Some(checksum) = checksum {
                to.u32_be(nfta::PAYLOAD_CHECKSUM, nfta::PAYLOAD_CHECKSUM_INTERNET);
                to.u32_be(nfta::PAYLOAD_CHECKSUM_OFFSET, checksum);
            }
            if is_address {
                to.u32_be(nfta::PAYLOAD_CHECKSUM_FLAGS, nfta::PAYLOAD_CHECKSUM_PSEUDO_HEADER);
            }
        });
    }

    /// Compares the first register with a constant. Numbers are in network byte order.
    pub(super) fn compare(&mut self, how: u32, value: &[u8]) {
        self.push("cmp", |to| {
            to.u32_be(nfta::COMPARE_FROM, FIRST);
            to.u32_be(nfta::COMPARE_HOW, how);
            data(to, nfta::COMPARE_DATA, value);
        });
    }

    /// Requires a value, in network byte order unless the kernel keeps it otherwise.
    pub(super) fn require(&mut self, from: Operand, value: &[u8]) {
        self.load(from, value.len() as u32, FIRST);
        self.compare(nfta::COMPARE_EQUAL, value);
    }

    pub(super) fn require_ip(&mut self, from: Operand, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.require(from, &ip.octets()),
            IpAddr::V6(ip) => self.require(from, &ip.octets()),
        }
    }

    pub(super) fn mask(&mut self, register: u32, bits: &[u8]) {
        self.push("bitwise", |to| {
            to.u32_be(nfta::BITWISE_FROM, register);
            to.u32_be(nfta::BITWISE_TO, register);
            to.u32_be(nfta::BITWISE_LEN, bits.len() as u32);
            data(to, nfta::BITWISE_MASK, bits);
            data(to, nfta::BITWISE_XOR, &vec![0; bits.len()]);
        });
    }

    /// Looks up the key in the first registers. The value of a map replaces it.
    pub(super) fn look_up(&mut self, set: &str, is_negated: bool, is_map: bool) {
        self.push("lookup", |to| {
            to.text(nfta::LOOKUP_SET, set);
            to.u32_be(nfta::LOOKUP_FROM, FIRST);
            if is_map {
                to.u32_be(nfta::LOOKUP_TO, FIRST);
            }
            if is_negated {
                to.u32_be(nfta::LOOKUP_FLAGS, nfta::LOOKUP_FLAG_INVERT);
            }
        });
    }

    pub(super) fn offload(&mut self, flowtable: &str) {
        self.push("flow_offload", |to| to.text(nfta::FLOW_TABLE, flowtable));
    }

    pub(super) fn counter(&mut self) {
        self.push("counter", |_| {});
    }

    /// Adds the first register to a dynamic set. If the set is full, the rule ends for every other
    /// value.
    pub(super) fn add_to(&mut self, set: &str) {
        self.push("dynset", |to| {
            to.text(nfta::DYNAMIC_SET, set);
            to.u32_be(nfta::DYNAMIC_OPERATION, nfta::DYNAMIC_ADD);
            to.u32_be(nfta::DYNAMIC_KEY, FIRST);
        });
    }

    /// Ends the rule for what exceeds so many packets a second.
    pub(super) fn limit(&mut self, packets: u32) {
        self.push("limit", |to| {
            to.bytes(nfta::LIMIT_RATE, &u64::from(packets).to_be_bytes());
            to.bytes(nfta::LIMIT_SECONDS, &1_u64.to_be_bytes());
            to.u32_be(nfta::LIMIT_BURST, packets);
        });
    }

    /// Makes the kernel report each rule that the packet matches from here on.
    pub(super) fn trace(&mut self) {
        self.push("immediate", |to| {
            to.u32_be(nfta::IMMEDIATE_TO, FIRST);
            data(to, nfta::IMMEDIATE_DATA, &[1]);
        });
        self.push("meta", |to| {
            to.u32_be(nfta::META_KEY, nfta::META_TRACE);
            to.u32_be(nfta::META_FROM, FIRST);
        });
    }

    /// Ends the rule with a verdict (`NF_*`, `NFT_*`), if necessary with a chain.
    pub(super) fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.push("immediate", |to| {
            to.u32_be(nfta::IMMEDIATE_TO, verdict::REGISTER);
            to.nest(nfta::IMMEDIATE_DATA, |to| {
                to.nest(DATA_VERDICT, |to| {
                    to.u32_be(verdict::CODE, code);
                    if let Some(chain) = chain {
                        to.text(verdict::CHAIN, chain);
                    }
                });
            });
        });
    }

    /// Translates the destination to the address (of a family `NFPROTO_*`) in the first register, and
    /// to the port in another register, if there is one.
    pub(super) fn destination_nat(&mut self, family: u8, port: Option<u32>) {
        self.push("nat", |to| {
            to.u32_be(nfta::NAT_TYPE, nfta::NAT_TYPE_DESTINATION);
            to.u32_be(nfta::NAT_FAMILY, family.into());
            to.u32_be(nfta::NAT_ADDRESS, FIRST);
            if let Some(port) = port {
                to.u32_be(nfta::NAT_PORT, port);
            }
        });
    }

    /// Translates the source to the address of the outgoing interface and a random port, if necessary
    /// of a range.
    pub(super) fn masquerade(&mut self, ports: Option<(u16, u16)>) {
        let Some((first, last)) = ports else {
            return self
                .push("masq", |to| to.u32_be(nfta::MASQUERADE_FLAGS, nfta::NAT_FULLY_RANDOM));
        };
        for (port, register) in [(first, FIRST), (last, SECOND)] {
            self.push("immediate", |to| {
                to.u32_be(nfta::IMMEDIATE_TO, register);
                data(to, nfta::IMMEDIATE_DATA, &port.to_be_bytes());
            });
        }
        self.push("masq", |to| {
            let flags = nfta::NAT_PORTS_GIVEN | nfta::NAT_FULLY_RANDOM;
            to.u32_be(nfta::MASQUERADE_FLAGS, flags);
            to.u32_be(nfta::MASQUERADE_FIRST_PORT, FIRST);
            to.u32_be(nfta::MASQUERADE_LAST_PORT, SECOND);
        });
    }

    /// Rejects packets with a type (`NFT_REJECT_*`) and a code of ICMP or ICMPv6.
    pub(super) fn reject(&mut self, kind: u32, code: u8) {
        self.push("reject", |to| {
            to.u32_be(nfta::REJECT_TYPE, kind);
            to.bytes(nfta::REJECT_CODE, &[code]);
        });
    }
}
